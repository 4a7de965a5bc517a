//! Small models with random weights, written as Hugging Face directories and as GGUF files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::json;

/// Embedding rows; more than there are tokens, as in real models.
pub(crate) const VOCABULARY: usize = 288;

/// Every type that weights may have.
pub(super) const TYPES: [GgmlDType; 11] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q6K,
    GgmlDType::Q5K,
    GgmlDType::Q4K,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
];

/// What to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) nemotron: bool,
    pub(crate) hidden: usize,
    pub(crate) feed_forward: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Part of the head that is rotated; Llama rotates all of it.
    pub(crate) partial: f64,
    pub(crate) tied: bool,
}

impl Shape {
    pub(crate) fn llama(heads: usize, kv_heads: usize, tied: bool) -> Self {
        // The width of a head is deliberately not hidden / heads.
        let (hidden, feed_forward, head_dim, partial) = (64, 96, 24, 1.0);
        Self { nemotron: false, hidden, feed_forward, heads, kv_heads, head_dim, partial, tied }
    }

    pub(crate) fn nemotron(heads: usize, kv_heads: usize, partial: f64) -> Self {
        let (hidden, feed_forward, head_dim) = (64, 96, 24);
        Self { nemotron: true, hidden, feed_forward, heads, kv_heads, head_dim, partial, tied: false }
    }

    fn rotary(&self) -> usize {
        (self.head_dim as f64 * self.partial) as usize
    }

    pub(crate) const LAYERS: usize = 2;
}

/// A model by the names of Hugging Face.
pub(crate) struct Fabricated {
    shape: Shape,
    /// Name, dimensions, numbers; in a fixed order.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Fabricated {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut state = 1u64;
        let mut random = |count: usize, scale: f32| -> Vec<f32> {
            let next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
            };
            std::iter::repeat_with(next).take(count).collect()
        };
        let Shape { hidden, feed_forward, heads, kv_heads, head_dim, .. } = shape;
        let mut tensors = Vec::new();
        let mut matrix =
            |name: String, rows: usize, width: usize, random: &mut dyn FnMut(usize, f32) -> Vec<f32>| {
                let numbers = random(rows * width, 1.5 / (width as f32).sqrt());
                tensors.push((name, vec![rows, width], numbers));
            };
        matrix("model.embed_tokens.weight".into(), VOCABULARY, hidden, &mut random);
        if !shape.tied {
            matrix("lm_head.weight".into(), VOCABULARY, hidden, &mut random);
        }
        for i in 0..Shape::LAYERS {
            let name = |part: &str| format!("model.layers.{i}.{part}.weight");
            matrix(name("self_attn.q_proj"), heads * head_dim, hidden, &mut random);
            matrix(name("self_attn.k_proj"), kv_heads * head_dim, hidden, &mut random);
            matrix(name("self_attn.v_proj"), kv_heads * head_dim, hidden, &mut random);
            matrix(name("self_attn.o_proj"), hidden, heads * head_dim, &mut random);
            if !shape.nemotron {
                matrix(name("mlp.gate_proj"), feed_forward, hidden, &mut random);
            }
            matrix(name("mlp.up_proj"), feed_forward, hidden, &mut random);
            matrix(name("mlp.down_proj"), hidden, feed_forward, &mut random);
        }
        let mut norms = vec!["model.norm".to_owned()];
        for i in 0..Shape::LAYERS {
            norms.push(format!("model.layers.{i}.input_layernorm"));
            norms.push(format!("model.layers.{i}.post_attention_layernorm"));
        }
        for norm in norms {
            let middle = if shape.nemotron { 0.0 } else { 1.0 };
            let weight = random(hidden, 0.2).iter().map(|x| x + middle).collect();
            tensors.push((format!("{norm}.weight"), vec![hidden], weight));
            if shape.nemotron {
                tensors.push((format!("{norm}.bias"), vec![hidden], random(hidden, 0.1)));
            }
        }
        Self { shape, tensors }
    }

    /// Writes a Hugging Face directory with its weights in `shards` files.
    pub(crate) fn write_directory(&self, directory: &Path, shards: usize) {
        fs::create_dir_all(directory).unwrap();
        let shape = &self.shape;
        let mut config = json!({
            "architectures": [if shape.nemotron { "NemotronForCausalLM" } else { "LlamaForCausalLM" }],
            "vocab_size": VOCABULARY,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": Shape::LAYERS,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": 128,
            "rope_theta": 1000.0,
            "tie_word_embeddings": shape.tied,
            "bos_token_id": 256,
            "eos_token_id": 257,
        });
        if shape.nemotron {
            config["hidden_act"] = "relu2".into();
            config["norm_eps"] = 1e-5.into();
            config["partial_rotary_factor"] = shape.partial.into();
        } else {
            config["hidden_act"] = "silu".into();
            config["rms_norm_eps"] = 1e-5.into();
        }
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        fs::write(directory.join("tokenizer.json"), tokenizer_json()).unwrap();

        let tensor = |(name, dims, numbers): &(String, Vec<usize>, Vec<f32>)| {
            (name.clone(), Tensor::from_slice(numbers, dims.as_slice(), &Device::Cpu).unwrap())
        };
        if shards == 1 {
            let all: HashMap<String, Tensor> = self.tensors.iter().map(tensor).collect();
            candle_core::safetensors::save(&all, directory.join("model.safetensors")).unwrap();
            return;
        }
        let mut weight_map = serde_json::Map::new();
        for (i, part) in self.tensors.chunks(self.tensors.len().div_ceil(shards)).enumerate() {
            let file = format!("model-{i:05}-of-{shards:05}.safetensors");
            for (name, ..) in part {
                weight_map.insert(name.clone(), file.clone().into());
            }
            let part: HashMap<String, Tensor> = part.iter().map(tensor).collect();
            candle_core::safetensors::save(&part, directory.join(file)).unwrap();
        }
        let index = json!({ "metadata": {}, "weight_map": weight_map });
        fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    /// The bytes of a GGUF file with matrices of type `element`.
    pub(crate) fn gguf(&self, element: GgmlDType) -> Vec<u8> {
        let tensors: Vec<(String, QTensor)> =
            self.tensors.iter().map(|t| self.gguf_tensor(t, element)).collect();
        let tensors: Vec<(&str, &QTensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let metadata = self.gguf_metadata();
        let metadata: Vec<(&str, &Value)> =
            metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut file = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        file.into_inner()
    }

    fn gguf_tensor(
        &self,
        (name, dims, numbers): &(String, Vec<usize>, Vec<f32>),
        element: GgmlDType,
    ) -> (String, QTensor) {
        let renamed = [
            ("model.embed_tokens", "token_embd"),
            ("lm_head", "output"),
            ("model.norm", "output_norm"),
            ("model.layers", "blk"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ]
        .iter()
        .fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let mut numbers = numbers.clone();
        if self.shape.nemotron && name.ends_with("norm.weight") {
            for x in &mut numbers {
                *x += 1.0;
            }
        }
        if !self.shape.nemotron && (name.contains("q_proj") || name.contains("k_proj")) {
            numbers = interleave_heads(&numbers, self.shape.head_dim, dims[1]);
        }
        let tensor = Tensor::from_vec(numbers, dims.as_slice(), &Device::Cpu).unwrap();
        let element = if dims.len() == 2 { element } else { GgmlDType::F32 };
        (renamed, QTensor::quantize(&tensor, element).unwrap())
    }

    fn gguf_metadata(&self) -> Vec<(String, Value)> {
        let shape = &self.shape;
        let (architecture, epsilon) = if shape.nemotron {
            ("nemotron", "attention.layer_norm_epsilon")
        } else {
            ("llama", "attention.layer_norm_rms_epsilon")
        };
        let number = |key: &str, n: usize| (format!("{architecture}.{key}"), Value::U32(n as u32));
        let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        let tokens = tokens();
        let types =
            (0..tokens.len()).map(|i| Value::I32(if (256..258).contains(&i) { 3 } else { 1 })).collect();
        vec![
            ("general.architecture".into(), Value::String(architecture.into())),
            number("block_count", Shape::LAYERS),
            number("context_length", 128),
            number("embedding_length", shape.hidden),
            number("feed_forward_length", shape.feed_forward),
            number("attention.head_count", shape.heads),
            number("attention.head_count_kv", shape.kv_heads),
            number("attention.key_length", shape.head_dim),
            number("rope.dimension_count", shape.rotary()),
            number("vocab_size", VOCABULARY),
            (format!("{architecture}.rope.freq_base"), Value::F32(1000.0)),
            (format!("{architecture}.{epsilon}"), Value::F32(1e-5)),
            ("tokenizer.ggml.model".into(), Value::String("gpt2".into())),
            ("tokenizer.ggml.pre".into(), Value::String("gpt-2".into())),
            ("tokenizer.ggml.tokens".into(), texts(tokens)),
            ("tokenizer.ggml.token_type".into(), Value::Array(types)),
            ("tokenizer.ggml.merges".into(), texts(MERGES.map(|(a, b)| format!("{a} {b}")).to_vec())),
            ("tokenizer.ggml.bos_token_id".into(), Value::U32(256)),
            ("tokenizer.ggml.eos_token_id".into(), Value::U32(257)),
            ("tokenizer.ggml.add_bos_token".into(), Value::Bool(true)),
        ]
    }
}

/// Rows of each head in the order `0, half, 1, half + 1, ...`, as llama.cpp's converter writes queries and keys.
fn interleave_heads(numbers: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    numbers
        .chunks(head_dim * width)
        .flat_map(|head| {
            let order = (0..head_dim / 2).flat_map(move |i| [i, i + head_dim / 2]);
            order.flat_map(move |row| &head[row * width..(row + 1) * width])
        })
        .copied()
        .collect()
}

const MERGES: [(&str, &str); 5] = [("l", "s"), ("g", "i"), ("gi", "t"), ("Ġ", "a"), ("Ġa", "d")];

/// 256 bytes as GPT-2 spells them, two control tokens, and what the merges make.
fn tokens() -> Vec<String> {
    let mut next = 256u32;
    let bytes = (0..=255u32).map(|byte| {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap().to_string()
    });
    let mut tokens: Vec<String> = bytes.collect();
    tokens.extend(["<s>".to_owned(), "</s>".to_owned()]);
    tokens.extend(MERGES.map(|(a, b)| format!("{a}{b}")));
    tokens
}

fn tokenizer_json() -> String {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        tokens().into_iter().zip(0u32..).map(|(token, id)| (token, id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    json!({
        "version": "1.0",
        "added_tokens": [special(256, "<s>"), special(257, "</s>")],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": MERGES.map(|(a, b)| format!("{a} {b}")) },
    })
    .to_string()
}

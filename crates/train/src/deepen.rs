//! A model made deeper without a change of what it computes, to be trained further: between its layers stand copies of them whose
//! last matrices are nothing (Wu and others, 2024, "LLaMA Pro: Progressive LLaMA with Block Expansion").

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use serde_json::Value;

/// What a layer's name begins with in the files of Hugging Face.
const LAYERS: &str = "model.layers.";
/// The matrices that add to the hidden state.
const ADDING: [&str; 2] = ["self_attn.o_proj.weight", "mlp.down_proj.weight"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory with config.json, tokenizer.json and model.safetensors
    #[arg(long)]
    from: PathBuf,
    /// How many layers there shall be, at most twice as many as there are
    #[arg(long)]
    layers: usize,
    /// Where the deeper model is written
    #[arg(long)]
    out: PathBuf,
}

/// Makes a model deeper.
///
/// # Errors
/// Where its files can't be read or written, or it can't become that deep.
pub fn deepen(Args { from, layers, out }: &Args) -> Result<()> {
    let read = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
    };
    let mut config: Value = serde_json::from_str(&read("config.json")?)?;
    let before =
        config["num_hidden_layers"].as_u64().context("config.json names no num_hidden_layers")? as usize;
    ensure!(
        (before..=2 * before).contains(layers),
        "{before} layers can become up to {}, not {layers}",
        2 * before
    );
    config["num_hidden_layers"] = (*layers).into();
    let tensors = candle_core::safetensors::load(from.join("model.safetensors"), &Device::Cpu)?;
    let tensors = deeper(tensors, before, *layers)?;
    fs::create_dir_all(out)?;
    let file = |name: &str| -> PathBuf { Path::new(out).join(name) };
    fs::write(file("config.json"), serde_json::to_string_pretty(&config)?)?;
    fs::write(file("tokenizer.json"), read("tokenizer.json")?)?;
    candle_core::safetensors::save(&tensors, file("model.safetensors"))?;
    println!("{before} layers have become {layers}, in {}", out.display());
    Ok(())
}

fn deeper(tensors: HashMap<String, Tensor>, before: usize, after: usize) -> Result<HashMap<String, Tensor>> {
    // The place of each layer, and of the copy behind it if it has one. They are spread evenly.
    let added = after - before;
    let place = |layer: usize| layer + layer * added / before;
    let has_copy = |layer: usize| place(layer + 1) == place(layer) + 2;
    let mut deeper = HashMap::new();
    for (name, tensor) in tensors {
        let Some((number, rest)) = name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')) else {
            deeper.insert(name, tensor);
            continue;
        };
        let layer: usize = number.parse().with_context(|| format!("{name} is of no layer"))?;
        if has_copy(layer) {
            let copy = if ADDING.contains(&rest) { tensor.zeros_like()? } else { tensor.clone() };
            deeper.insert(format!("{LAYERS}{}.{rest}", place(layer) + 1), copy);
        }
        deeper.insert(format!("{LAYERS}{}.{rest}", place(layer)), tensor);
    }
    Ok(deeper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemoterm_engine::{LoadOptions, Model, Source};

    #[test]
    fn a_deeper_model_computes_the_same() {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/nemotron-3-1");
        let out = tempfile::tempdir().unwrap();
        let load =
            |path: &Path| Model::load(&Source::Directory(path.to_owned()), &LoadOptions::default()).unwrap();
        let model = load(&from);
        let layers = model.info().layers;
        let args = |layers| Args { from: from.clone(), layers, out: out.path().to_owned() };
        deepen(&args(layers + 1)).unwrap();
        let deeper = load(out.path());
        assert_eq!(deeper.info().layers, layers + 1);
        let tokens = [1, 5, 9, 2];
        assert_eq!(model.logits(&tokens).unwrap(), deeper.logits(&tokens).unwrap());
        assert!(deepen(&args(2 * layers + 1)).unwrap_err().to_string().contains("up to"));
    }

    #[test]
    fn copies_are_spread_evenly() {
        let tensor = Tensor::new(1f32, &Device::Cpu).unwrap();
        let names =
            (0..6).flat_map(|layer| [format!("{LAYERS}{layer}.{}", ADDING[0]), format!("{LAYERS}{layer}.x")]);
        let mut tensors: HashMap<String, Tensor> = names.map(|name| (name, tensor.clone())).collect();
        tensors.insert("lm_head.weight".to_owned(), tensor);
        let deeper = deeper(tensors, 6, 9).unwrap();
        assert_eq!(deeper.len(), 19);
        let adds =
            |layer: usize| deeper[&format!("{LAYERS}{layer}.{}", ADDING[0])].to_scalar::<f32>().unwrap();
        let copies: Vec<usize> = (0..9).filter(|&layer| adds(layer) == 0.0).collect();
        assert_eq!(copies, [2, 5, 8]);
    }
}

//! Models that can be named in one word.

use crate::id::ModelId;

/// A model on the Hub with a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What it is called here.
    pub name: &'static str,
    /// Repository, and file where there are several.
    pub id: &'static str,
    /// Bytes of the files, about.
    pub bytes: u64,
    /// The publisher's licence. What the Hub says when it is fetched counts.
    pub licence: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
}

impl Preset {
    /// Its name on the Hub.
    ///
    /// # Panics
    /// Never: a test parses all of them.
    #[allow(clippy::expect_used, reason = "the table is part of the program, and a test parses all of it")]
    pub fn model_id(&self) -> ModelId {
        self.id.parse().expect("a preset's id is a name on the Hub")
    }
}

const MB: u64 = 1_000_000;

/// All presets, the ones to try first at the top.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "nemotron-mini-4b",
        id: "bartowski/Nemotron-Mini-4B-Instruct-GGUF:Q4_K_M",
        bytes: 2_700 * MB,
        licence: "nvidia-community-model-license",
        description: "Minitron architecture, 4.2 B parameters in 4 bits; the model nemoterm is made for",
    },
    Preset {
        name: "nemotron-mini-4b-q8",
        id: "bartowski/Nemotron-Mini-4B-Instruct-GGUF:Q8_0",
        bytes: 4_460 * MB,
        licence: "nvidia-community-model-license",
        description: "the same in 8 bits",
    },
    Preset {
        name: "nemotron-mini-4b-f16",
        id: "bartowski/Nemotron-Mini-4B-Instruct-GGUF:f16",
        bytes: 8_390 * MB,
        licence: "nvidia-community-model-license",
        description: "the same in 16 bits",
    },
    Preset {
        name: "nemotron-mini-4b-bf16",
        id: "nvidia/Nemotron-Mini-4B-Instruct",
        bytes: 8_380 * MB,
        licence: "nvidia-community-model-license",
        description: "the same as NVIDIA publishes it, in 16 bits; --quantize makes it smaller",
    },
    Preset {
        name: "minitron-4b-base",
        id: "nvidia/Minitron-4B-Base",
        bytes: 8_380 * MB,
        licence: "nvidia-open-model-license",
        description: "its base model, as NVIDIA publishes it, in 16 bits; --quantize makes it smaller",
    },
    Preset {
        name: "llama-nemotron-nano-4b",
        id: "bartowski/nvidia_Llama-3.1-Nemotron-Nano-4B-v1.1-GGUF:Q4_K_M",
        bytes: 2_780 * MB,
        licence: "nvidia-open-model-license",
        description: "Llama architecture, 4.5 B parameters in 4 bits",
    },
    Preset {
        name: "nemotron-3-nano-4b",
        id: "unsloth/NVIDIA-Nemotron-3-Nano-4B-GGUF:Q4_K_M",
        bytes: 2_900 * MB,
        licence: "nvidia-nemotron-open-model-license",
        description: "Nemotron-H (Mamba-2 and attention), 4.0 B parameters in 4 bits; tuned for chats",
    },
    Preset {
        name: "nemotron-3-nano-4b-bf16",
        id: "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16",
        bytes: 7_950 * MB,
        licence: "nvidia-nemotron-open-model-license",
        description: "the same in 16 bits, as NVIDIA publishes it; --quantize makes it smaller",
    },
    Preset {
        name: "nemotron-terminal-8b",
        id: "nvidia/Nemotron-Terminal-8B",
        bytes: 16_400 * MB,
        licence: "named on its page",
        description: "Qwen 3 architecture, 8.2 B parameters in 16 bits, tuned for terminals; --quantize makes it smaller",
    },
    Preset {
        name: "qwen3-4b",
        id: "Qwen/Qwen3-4B",
        bytes: 8_050 * MB,
        licence: "apache-2.0",
        description: "Qwen 3 architecture, 4.0 B parameters in 16 bits; --quantize makes it smaller",
    },
    Preset {
        name: "qwen2.5-coder-1.5b",
        id: "Qwen/Qwen2.5-Coder-1.5B",
        bytes: 3_090 * MB,
        licence: "apache-2.0",
        description: "Qwen 2 architecture, 1.5 B parameters; fills in the middle of a line",
    },
    Preset {
        name: "qwen2.5-coder-0.5b",
        id: "Qwen/Qwen2.5-Coder-0.5B",
        bytes: 990 * MB,
        licence: "apache-2.0",
        description: "the same with 0.5 B parameters, for machines without a GPU",
    },
    Preset {
        name: "smollm2-360m",
        id: "HuggingFaceTB/SmolLM2-360M",
        bytes: 724 * MB,
        licence: "apache-2.0",
        description: "Llama architecture, 362 M parameters; a general model for machines without a GPU",
    },
    Preset {
        name: "smollm2-135m",
        id: "HuggingFaceTB/SmolLM2-135M",
        bytes: 269 * MB,
        licence: "apache-2.0",
        description: "Llama architecture, 135 M parameters",
    },
];

/// The preset of a name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_ids_are_names_on_the_hub() {
        let names: HashSet<_> = PRESETS.iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), PRESETS.len());
        for preset in PRESETS {
            assert_eq!(preset.model_id().to_string(), preset.id);
        }
    }
}

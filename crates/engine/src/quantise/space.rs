//! What llama.cpp's converter makes of the tensors of a state-space mixer beside its two matrices. They are few numbers, and stay
//! such of 32 bits.

use super::Planned;
use crate::config::{Config, Mixer};
use crate::decoder::numbered;
use crate::weights::Checkpoint;

/// The tensors of all state-space layers. What is not in the source is left out: a convolution may have no bias.
pub(super) fn planned(config: &Config, checkpoint: &Checkpoint) -> Vec<Planned> {
    let Some(hybrid) = &config.hybrid else { return Vec::new() };
    let (space, from, to) = (&hybrid.space, &config.names.space, &config.family.gguf_names.space);
    let (channels, groups) = (space.channels(), space.groups);
    let layers = hybrid.layers.iter().enumerate().filter(|&(_, &mixer)| mixer == Mixer::StateSpace);
    let mut all = Vec::new();
    for (layer, _) in layers {
        let mut take = |from: &str, to: &str, suffix: &str, shape: Vec<usize>| {
            let name = |name: &str| format!("{}{suffix}", numbered(name, layer));
            let Some(tensor) = checkpoint.tensors.get(&name(from)) else { return };
            let mut numbers = tensor.to_f32();
            if from == config.names.space.decay && space.logarithmic_decay {
                for rate in &mut numbers {
                    *rate = -rate.exp();
                }
            }
            all.push(Planned::computed(name(to), &numbers, shape));
        };
        take(from.convolution, to.convolution, ".weight", vec![channels, space.kernel]);
        take(from.convolution, to.convolution, ".bias", vec![channels]);
        take(from.step, to.step, "", vec![space.heads]);
        take(from.decay, to.decay, "", vec![space.heads, 1]);
        take(from.skip, to.skip, "", vec![space.heads, 1]);
        take(from.norm, to.norm, ".weight", vec![groups, space.inner() / groups]);
    }
    all
}

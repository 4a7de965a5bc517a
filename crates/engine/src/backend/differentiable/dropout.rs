//! Dropout (Srivastava and others, 2014): so that what a small corpus says once is not learnt by heart.

use std::cell::RefCell;

use candle_core::{Result, Tensor};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

thread_local! {
    /// Each batch has a thread of its own, and sets this first: the same batch leaves out the same values.
    static CHOICES: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(0));
}

/// Decides what this thread leaves out from now on.
pub(crate) fn seed(seed: u64) {
    CHOICES.with_borrow_mut(|choices| *choices = SmallRng::seed_from_u64(seed));
}

/// `x` with about this share of its values 0, and the others larger by as much as keeps their mean.
pub(crate) fn apply(x: &Tensor, share: f32) -> Result<Tensor> {
    let kept = 1.0 / (1.0 - share);
    let threshold = (f64::from(share) * f64::from(u32::MAX)) as u32;
    let mask: Vec<f32> = CHOICES.with_borrow_mut(|choices| {
        (0..x.elem_count()).map(|_| if choices.random::<u32>() < threshold { 0.0 } else { kept }).collect()
    });
    x * Tensor::from_vec(mask, x.shape(), x.device())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_share_is_left_out_and_the_mean_kept() {
        let ones = Tensor::ones((100, 200), candle_core::DType::F32, &Device::Cpu).unwrap();
        seed(7);
        let once: Vec<f32> = apply(&ones, 0.2).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let out = once.iter().filter(|&&value| value == 0.0).count();
        assert!((3_700..4_300).contains(&out), "{out} of 20,000");
        assert!(once.iter().all(|&value| value == 0.0 || (value - 1.25).abs() < 1e-6));
        seed(7);
        let again: Vec<f32> = apply(&ones, 0.2).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(once, again);
    }
}

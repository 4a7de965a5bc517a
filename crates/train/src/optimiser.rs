//! How weights are changed: matrices by Muon, everything else by AdamW.
//!
//! Muon (Jordan and others, 2024, "Muon: an optimizer for hidden layers in neural networks") moves a matrix by its
//! momentum with all singular values brought near 1. The factor that gives its steps the size of AdamW's is that of
//! Liu and others, 2025, "Muon is scalable for LLM training".
//!
//! AdamW is written out, too, because the tensor library's keeps its moments to itself, and a run that was interrupted needs
//! them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use nemoterm_engine::train::{Parameter, Role};

const MOMENTUM: f64 = 0.95;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPSILON: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.1;

/// The state of both methods.
pub struct Optimiser {
    /// Momentum, or the first moment, of each parameter.
    first: Vec<Tensor>,
    /// The second moment; a placeholder where there is none.
    second: Vec<Tensor>,
    steps: i32,
}

impl Optimiser {
    /// Begins at rest.
    pub fn new(parameters: &[Parameter]) -> Result<Self> {
        let zeros = |parameter: &Parameter| parameter.var.zeros_like();
        let first = parameters.iter().map(zeros).collect::<candle_core::Result<_>>()?;
        let second = parameters.iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { first, second, steps: 0 })
    }

    /// Takes one step of this size.
    pub fn step(&mut self, parameters: &[Parameter], gradients: &[Tensor], rate: f64) -> Result<()> {
        self.steps += 1;
        // Independent of one another, so each has a thread's time when there is one.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parameters.len());
        let steps = self.steps;
        let mut work: Vec<_> = parameters
            .iter()
            .zip(gradients)
            .zip(self.first.iter_mut().zip(&mut self.second))
            .map(|((parameter, gradient), (first, second))| (parameter, gradient, first, second))
            .collect();
        let queue = std::sync::Mutex::new(work.drain(..));
        std::thread::scope(|scope| {
            let run = || -> Result<()> {
                loop {
                    let Ok(mut rest) = queue.lock() else { return Ok(()) };
                    let Some((parameter, gradient, first, second)) = rest.next() else { return Ok(()) };
                    drop(rest);
                    match parameter.role {
                        Role::Matrix => muon(parameter, gradient, first, rate)?,
                        Role::Tokens | Role::Vector => {
                            adamw(parameter, gradient, first, second, rate, steps)?;
                        }
                    }
                }
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })
    }

    /// Writes the state.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for (i, (first, second)) in self.first.iter().zip(&self.second).enumerate() {
            tensors.insert(format!("first.{i}"), first.clone());
            tensors.insert(format!("second.{i}"), second.clone());
        }
        tensors.insert("steps".to_owned(), Tensor::new(&[i64::from(self.steps)], &Device::Cpu)?);
        candle_core::safetensors::save(&tensors, path).context("the optimiser's state can't be written")
    }

    /// Goes on from a state that was written.
    pub fn load(path: &Path, parameters: &[Parameter]) -> Result<Self> {
        let Some(parameter) = parameters.first() else { anyhow::bail!("no parameters") };
        let mut tensors = candle_core::safetensors::load(path, parameter.var.device())?;
        let mut take = |name: String| tensors.remove(&name).with_context(|| format!("{name} is missing"));
        let steps = take("steps".to_owned())?.to_dtype(DType::I64)?.to_vec1::<i64>()?[0];
        let count = parameters.len();
        let first = (0..count).map(|i| take(format!("first.{i}"))).collect::<Result<_>>()?;
        let second = (0..count).map(|i| take(format!("second.{i}"))).collect::<Result<_>>()?;
        Ok(Self { first, second, steps: i32::try_from(steps)? })
    }
}

fn adamw(
    parameter: &Parameter,
    gradient: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    rate: f64,
    steps: i32,
) -> Result<()> {
    *first = ((&*first * BETA1)? + (gradient * (1.0 - BETA1))?)?;
    *second = ((&*second * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
    let mean = (&*first / (1.0 - BETA1.powi(steps)))?;
    let deviation = ((&*second / (1.0 - BETA2.powi(steps)))?.sqrt()? + EPSILON)?;
    let step = (mean / deviation)?;
    let decay = if parameter.role == Role::Vector { 0.0 } else { WEIGHT_DECAY };
    let kept = (parameter.var.as_tensor() * (1.0 - rate * decay))?;
    Ok(parameter.var.set(&(kept - (step * rate)?)?.detach())?)
}

fn muon(parameter: &Parameter, gradient: &Tensor, momentum: &mut Tensor, rate: f64) -> Result<()> {
    *momentum = ((&*momentum * MOMENTUM)? + gradient)?;
    let nesterov = ((&*momentum * MOMENTUM)? + gradient)?;
    let (rows, columns) = nesterov.dims2()?;
    let step = (orthogonal(&nesterov)? * (0.2 * (rows.max(columns) as f64).sqrt()))?;
    let kept = (parameter.var.as_tensor() * (1.0 - rate * WEIGHT_DECAY))?;
    Ok(parameter.var.set(&(kept - (step * rate)?)?.detach())?)
}

/// The matrix with its singular values near 1, by five Newton-Schulz iterations with the coefficients of Muon.
fn orthogonal(matrix: &Tensor) -> candle_core::Result<Tensor> {
    const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
    let (a, b, c) = COEFFICIENTS;
    let (rows, columns) = matrix.dims2()?;
    let mut x = if rows > columns { matrix.t()?.contiguous()? } else { matrix.clone() };
    let norm = f64::from(x.sqr()?.sum_all()?.sqrt()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    x = (x / (norm + 1e-7))?;
    for _ in 0..5 {
        let gram = x.matmul(&x.t()?)?;
        let polynomial = ((&gram * b)? + (gram.matmul(&gram)? * c)?)?;
        x = ((&x * a)? + polynomial.matmul(&x)?)?;
    }
    if rows > columns { x.t()?.contiguous() } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        let values: Vec<f32> = (0..24 * 60).map(|i| ((i * 7919 % 1013) as f32 / 1013.0) - 0.5).collect();
        for shape in [(24, 60), (60, 24)] {
            let matrix = Tensor::from_slice(&values, shape, &Device::Cpu).unwrap();
            let x = orthogonal(&matrix).unwrap();
            let x = if shape.0 > shape.1 { x.t().unwrap().contiguous().unwrap() } else { x };
            // The sum of squares of 24 singular values, each between 0.7 and 1.2 squared.
            let sum: f32 = x.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
            assert!((0.5 * 24.0..1.5 * 24.0).contains(&sum), "{sum}");
        }
    }
}

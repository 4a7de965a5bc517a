//! Work of a stream: done at once, or kept while the stream is capturing.

use super::{
    Answer, Code,
    blas::Product,
    bytes, code, complain,
    state::{Handle, LEGACY, State},
};
use crate::ptx::{
    fault::Class,
    launch::{Kernel, Launch},
};

/// A piece of work.
#[derive(Clone, Debug)]
pub enum Work {
    /// A kernel, over a grid of blocks.
    Launch(Call),
    /// To the card: to where, from where, how many bytes.
    Up(u64, usize, usize),
    /// From the card.
    Down(usize, u64, usize),
    /// On the card.
    Across(u64, u64, usize),
    /// Fills with elements of 1, 2 or 4 bytes: where, which, how wide, how many.
    Fill(u64, u32, usize, usize),
    /// A product of matrices by cuBLAS.
    Multiply(Product),
}

/// A kernel that is to be launched.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub function: Handle,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block in each direction.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what it declares.
    pub dynamic: usize,
    /// The parameters.
    pub parameters: Vec<u8>,
}

/// The most shared memory that a block can have, if the program asks for it.
pub const MOST_SHARED: usize = 163 << 10;
/// The most that it has otherwise.
pub const USUAL_SHARED: usize = 48 << 10;

impl State {
    /// Does work of a stream, or keeps it.
    pub fn submit(&mut self, stream: Handle, work: Work) -> Answer {
        self.works()?;
        if LEGACY.contains(&stream) {
            self.legacy()?;
        }
        let found = self.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?;
        if let Some(capture) = &mut found.capture {
            if capture.invalid {
                return Err(code::CAPTURE_INVALIDATED);
            }
            capture.work.push(work);
            return Ok(());
        }
        self.perform(&work, false)
    }

    /// The legacy stream waits for all blocking ones, so while one of them is capturing it can't be used.
    pub fn legacy(&mut self) -> Answer {
        let mut streams = self.streams.values_mut().filter(|stream| !stream.non_blocking);
        if let Some(capture) = streams.find_map(|stream| stream.capture.as_mut()) {
            capture.invalid = true;
            return Err(code::CAPTURE_IMPLICIT);
        }
        Ok(())
    }

    /// Does work.
    pub fn perform(&mut self, work: &Work, from_graph: bool) -> Answer {
        let done = match work {
            Work::Launch(call) => self.launch(call, from_graph),
            Work::Up(to, from, count) => {
                let data = bytes(*from as *const u8, *count)?;
                if self.memory.write(*to, data) {
                    Ok(())
                } else {
                    Err(outside("a copy to the card", *to, *count))
                }
            }
            Work::Down(to, from, count) => {
                let place = self
                    .memory
                    .slice(*from, *count)
                    .ok_or_else(|| outside("a copy from the card", *from, *count))?;
                // SAFETY: the memory is allocated, and the caller promises that there is room for as much.
                #[allow(unsafe_code)]
                unsafe {
                    (*to as *mut u8).copy_from_nonoverlapping(place, *count);
                }
                Ok(())
            }
            Work::Across(to, from, count) => {
                let source =
                    self.memory.slice(*from, *count).ok_or_else(|| outside("a copy", *from, *count))?;
                let target = self.memory.slice(*to, *count).ok_or_else(|| outside("a copy", *to, *count))?;
                // SAFETY: both are allocated; they may overlap.
                #[allow(unsafe_code)]
                unsafe {
                    target.copy_from(source, *count);
                }
                Ok(())
            }
            Work::Fill(to, value, width, count) => {
                let all = width * count;
                let place = self.memory.slice(*to, all).ok_or_else(|| outside("a fill", *to, all))?;
                let element = &value.to_le_bytes()[..*width];
                for index in 0..all {
                    // SAFETY: all of it is allocated.
                    #[allow(unsafe_code)]
                    unsafe {
                        place.add(index).write(element[index % width]);
                    }
                }
                Ok(())
            }
            Work::Multiply(product) => {
                let from = if from_graph { " graph" } else { "" };
                self.note(&format!("{}{from}", product.described()));
                product.perform(&self.memory)
            }
        };
        if let Err(code @ (code::ILLEGAL_ADDRESS | code::MISALIGNED | code::LAUNCH_FAILED | code::ASSERT)) =
            done
        {
            self.broken = Some(code);
        }
        done
    }

    /// Whether a launch is within the card's bounds.
    pub fn check(&mut self, call: &Call) -> Result<std::sync::Arc<Kernel>, Code> {
        let kernel = self.kernel(call.function)?;
        let most_dynamic = self.functions.get(&call.function).map_or(0, |function| function.most_dynamic);
        let [x, y, z] = call.block;
        let threads = u64::from(x) * u64::from(y) * u64::from(z);
        let refuse = |why: &str| {
            complain(&format!("{} can't be launched: {why}", kernel.name));
            Err(code::INVALID_VALUE)
        };
        if threads == 0 || threads > 1024 || z > 64 {
            return refuse(&format!("blocks of {:?} threads", call.block));
        }
        if kernel.max_threads.is_some_and(|most| threads > most as u64) {
            return refuse(&format!("it is compiled for blocks of at most {:?} threads", kernel.max_threads));
        }
        let [blocks, rows, layers] = call.grid;
        if blocks == 0
            || blocks > i32::MAX as u32
            || rows == 0
            || rows > 65535
            || layers == 0
            || layers > 65535
        {
            return refuse(&format!("a grid of {:?} blocks", call.grid));
        }
        let shared = kernel.shared + call.dynamic;
        let most = if most_dynamic > USUAL_SHARED { MOST_SHARED } else { USUAL_SHARED };
        if shared > most || call.dynamic > most_dynamic {
            return refuse(&format!("{shared} bytes of shared memory, where {most} are allowed"));
        }
        Ok(kernel)
    }

    fn launch(&mut self, call: &Call, from_graph: bool) -> Answer {
        let kernel = self.check(call)?;
        let Call { grid, block, dynamic, parameters, .. } = call;
        let (grid, block, dynamic) = (*grid, *block, *dynamic);
        let shared = kernel.shared + dynamic;
        let begun = std::time::Instant::now();
        let (memory, races) = (&self.memory, self.races);
        let launch = Launch { kernel: &kernel, grid, block, dynamic, parameters, memory, races };
        let steps = launch.run().map_err(|fault| {
            complain(&fault.message);
            match fault.class {
                Class::IllegalAddress => code::ILLEGAL_ADDRESS,
                Class::Misaligned => code::MISALIGNED,
                Class::Assertion => code::ASSERT,
                Class::Other => code::LAUNCH_FAILED,
            }
        });
        let join = |sizes: [u32; 3]| sizes.map(|size| size.to_string()).join("x");
        let (took, from) = (begun.elapsed().as_micros(), if from_graph { " graph" } else { "" });
        let counted = steps.as_ref().map_or(0, |steps| *steps);
        self.note(&format!(
            "{} grid {} block {} shared {shared} steps {counted} microseconds {took}{from}",
            kernel.name,
            join(grid),
            join(block)
        ));
        steps.map(|_| ())
    }
}

fn outside(what: &str, address: u64, count: usize) -> Code {
    complain(&format!("{what}: {count} bytes at {address:#x} are outside of all that is allocated"));
    code::INVALID_VALUE
}

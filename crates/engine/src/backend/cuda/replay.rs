//! Passes that are recorded and queued again as one.
//!
//! A token takes some hundred kernels, and a driver a few microseconds to queue each. What a pass queues is the same from one token to
//! the next, but for its input, which is copied to where the recorded pass reads it, and for where its rows stand in their caches, which
//! lies in [`Places`]. Such a recording is a graph of CUDA, see "CUDA Graphs" in NVIDIA's programming guide.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaGraph;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdeviceptr, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use candle_core::{Error, Result};

use super::attention::{TEXTS, chunks};
use super::stream::{Buffer, Stream};
use super::{Cuda, FEW, Rows};
use crate::backend::{Recordings, Section};

/// Recorded passes that are kept. Each takes about a megabyte, and those of caches that have grown or gone are never used again.
const MOST: usize = 64;

/// What two passes must have in common for a recording of one to serve as the other.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// Cache, rows and how many of them are wanted, of each text.
    spans: Vec<(u64, usize, usize)>,
    chunks: usize,
}

enum Known {
    /// Such a pass was run once.
    Once,
    Recorded(Box<Recording>),
    /// It could not be recorded.
    Refused,
}

struct Recording {
    graph: Graph,
    /// Where the recorded kernels read what goes in, and the numbers in it.
    input: Buffer,
    count: usize,
    /// Where they leave what comes out.
    output: Rows,
}

struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, one at a time; it lies behind a lock.
#[allow(unsafe_code)]
unsafe impl Send for Graph {}

#[derive(Default)]
pub(super) struct Replays {
    known: HashMap<Kind, Known>,
    /// Why the last pass that could not be recorded could not.
    refusal: Option<String>,
}

impl Replays {
    pub(super) fn summary(&self) -> Recordings {
        let kept = self.known.values().filter(|known| matches!(known, Known::Recorded(_))).count();
        Recordings { kept, refusal: self.refusal.clone() }
    }
}

/// Where the rows of the current pass stand: positions, then which of the texts of a launch each belongs to.
pub(super) struct Places {
    /// Of passes with few rows, so that recorded ones find it where it was.
    few: Buffer,
    many: Mutex<Option<(Buffer, usize)>>,
}

impl Places {
    pub(super) fn new(stream: &Arc<Stream>) -> Result<Self> {
        Ok(Self { few: stream.take(2 * FEW)?, many: Mutex::new(None) })
    }

    fn tell(&self, stream: &Arc<Stream>, sections: &[Section]) -> Result<()> {
        let rows: usize = sections.iter().map(|section| section.count).sum();
        let positions = sections.iter().flat_map(|section| section.start..section.start + section.count);
        // A launch of the attention takes some of the texts, and numbers those.
        let texts = sections
            .iter()
            .enumerate()
            .flat_map(|(i, section)| std::iter::repeat_n(i % TEXTS, section.count));
        let room = rows.max(FEW);
        let mut numbers = vec![0.0; 2 * room];
        for (i, (position, text)) in positions.zip(texts).enumerate() {
            // Memory of the card is counted in f32, but these are whole numbers.
            numbers[i] = f32::from_bits(position as u32);
            numbers[room + i] = f32::from_bits(text as u32);
        }
        let mut many = self.many.lock().unwrap_or_else(PoisonError::into_inner);
        if rows <= FEW {
            *many = None;
            stream.upload(&self.few, &numbers)
        } else {
            let buffer = stream.take(2 * room)?;
            stream.upload(&buffer, &numbers)?;
            *many = Some((buffer, room));
            Ok(())
        }
    }

    /// Positions and texts from row `first` on.
    pub(super) fn of(&self, first: usize) -> (CUdeviceptr, CUdeviceptr) {
        let many = self.many.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, room) =
            many.as_ref().map_or((self.few.pointer(), FEW), |(buffer, room)| (buffer.pointer(), *room));
        let at = |index: usize| start + (index * size_of::<u32>()) as u64;
        (at(first), at(room + first))
    }
}

impl Cuda {
    /// Runs a pass, or what was recorded of one like it.
    #[allow(unsafe_code)]
    pub(super) fn run_pass(
        &self,
        sections: &[Section],
        x: Rows,
        work: &mut dyn FnMut(Rows) -> Result<Rows>,
    ) -> Result<Rows> {
        self.places.tell(&self.stream, sections)?;
        let Some(kind) = kind(sections) else { return work(x) };
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        if replays.known.len() >= MOST && !replays.known.contains_key(&kind) {
            replays.known.clear();
        }
        match replays.known.get(&kind) {
            None => {
                replays.known.insert(kind, Known::Once);
                self.prepare(x, work)
            }
            Some(Known::Refused) => work(x),
            Some(Known::Recorded(recording)) => {
                // SAFETY: both have the numbers of all rows.
                unsafe {
                    self.stream.copy(recording.input.pointer(), x.at(0), recording.count * size_of::<f32>())
                }?;
                recording.graph.0.launch().map_err(Error::wrap)?;
                Ok(recording.output.again())
            }
            Some(Known::Once) => match self.record(x.again(), work) {
                Ok(recording) => {
                    recording.graph.0.launch().map_err(Error::wrap)?;
                    let output = recording.output.again();
                    replays.known.insert(kind, Known::Recorded(Box::new(recording)));
                    Ok(output)
                }
                // Nothing of it was run. What other recordings have kept since the first time is replaced now.
                Err(_) if self.stream.has_lacked() => self.prepare(x, work),
                Err(error) => {
                    replays.refusal = Some(error.to_string());
                    replays.known.insert(kind, Known::Refused);
                    work(x)
                }
            },
        }
    }

    /// Runs a pass, and keeps what it takes of the card's memory, which is what a recorded one will need.
    fn prepare(&self, x: Rows, work: &mut dyn FnMut(Rows) -> Result<Rows>) -> Result<Rows> {
        self.stream.keep(true, false);
        let done = work(x);
        self.stream.keep(false, false);
        done
    }

    fn record(&self, x: Rows, work: &mut dyn FnMut(Rows) -> Result<Rows>) -> Result<Recording> {
        let queue = self.stream.queue();
        let (input, count) = (x.values.clone(), x.count());
        queue.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(Error::wrap)?;
        self.stream.keep(true, true);
        let output = work(x);
        self.stream.keep(false, false);
        // Ended in any case: a stream that records runs nothing.
        let graph = queue.end_capture(CUgraphInstantiate_flags(0)).map_err(Error::wrap);
        let (output, Some(graph)) = (output?, graph?) else { candle_core::bail!("nothing was recorded") };
        Ok(Recording { graph: Graph(graph), input, count, output })
    }
}

impl Rows {
    /// The same memory. Who has it reads it before the next pass.
    fn again(&self) -> Self {
        Self {
            values: self.values.clone(),
            rounded: self.rounded.clone(),
            rows: self.rows,
            width: self.width,
        }
    }
}

/// `None` where a pass is not worth recording, or has parts that can't be.
fn kind(sections: &[Section]) -> Option<Kind> {
    let rows: usize = sections.iter().map(|section| section.count).sum();
    let end = sections.iter().map(|section| section.start + section.count).max()?;
    let is_few = rows <= FEW && sections.iter().any(|section| section.wanted > 0);
    if !is_few || sections.iter().any(|section| section.cache.is_none()) {
        return None;
    }
    let spans =
        sections.iter().map(|section| (section.cache.unwrap_or(0), section.count, section.wanted)).collect();
    Some(Kind { spans, chunks: chunks(end) })
}

//! Kernels ready to run, and running them over a grid.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    fault::{Class, Fault, Outcome},
    machine::{Block, Instruction, LANES, Slot, Warp, run_block},
    module::Parameter,
    races::Races,
};
use crate::memory::Memory;

/// Where generic addresses of memory that the threads of a block share begin. No address of this process is as high.
pub const SHARED: u64 = 1 << 56;
/// Where those of a thread's own memory begin.
pub const LOCAL: u64 = 2 << 56;
/// Where those of a kernel's parameters begin.
pub const PARAMETERS: u64 = 3 << 56;
/// The bits that say which of them an address is in.
pub const WINDOW: u64 = 0xff << 56;

/// A function that can be launched, as steps.
pub struct Kernel {
    /// What it is called.
    pub name: String,
    /// The module's text, for messages.
    pub text: Arc<str>,
    /// The steps.
    pub code: Vec<Instruction>,
    /// How many registers there are.
    pub registers: usize,
    /// How many registers of truth.
    pub predicates: usize,
    /// Registers that hold numbers of the text.
    pub constants: Vec<(Slot, u64)>,
    /// Registers that hold what the machine says of itself.
    pub specials: Vec<(Special, Slot)>,
    /// Bytes that a block shares, without those a launch asks for.
    pub shared: usize,
    /// Bytes of a thread's own.
    pub local: usize,
    /// What it takes.
    pub parameters: Vec<Parameter>,
    /// The most threads of a block, where the text says so.
    pub max_threads: Option<usize>,
}

/// A launch of a kernel.
pub struct Launch<'l> {
    /// What is launched.
    pub kernel: &'l Kernel,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block in each direction.
    pub block: [u32; 3],
    /// Bytes a block shares beyond what the kernel declares.
    pub dynamic: usize,
    /// The parameters' bytes.
    pub parameters: &'l [u8],
    /// The card's memory.
    pub memory: &'l Memory,
    /// Whether it's an error that warps use memory of their block with no barrier between them.
    pub races: bool,
}

impl Launch<'_> {
    /// Threads of a block.
    pub fn threads(&self) -> usize {
        self.block.iter().map(|&threads| threads as usize).product()
    }

    /// Runs all blocks; returns how many steps all threads took together.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong.
    pub fn run(&self) -> Result<u64, Box<Fault>> {
        let blocks: u64 = self.grid.iter().map(|&blocks| u64::from(blocks)).product();
        let next = AtomicU64::new(0);
        let steps = AtomicU64::new(0);
        let failed: Mutex<Option<Box<Fault>>> = Mutex::new(None);
        let work = || {
            let mut warps: Vec<Warp> =
                (0..self.threads().div_ceil(LANES)).map(|index| Warp::new(self, index)).collect();
            let shared = vec![0; self.kernel.shared + self.dynamic];
            let mut block = Block { launch: self, shared, place: [0; 3], recent: (0, 0), races: None };
            loop {
                // In order, so that a block may wait for one before it.
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= blocks {
                    break;
                }
                let row = number / u64::from(self.grid[0]);
                block.place = [
                    (number % u64::from(self.grid[0])) as u32,
                    (row % u64::from(self.grid[1])) as u32,
                    (row / u64::from(self.grid[1])) as u32,
                ];
                // What was never written must not be taken for zero.
                block.shared.fill(0xff);
                if self.races && block.races.is_none() {
                    block.races = Some(Races::new(block.shared.len()));
                }
                if let Err(fault) = run_block(&mut warps, &mut block) {
                    next.store(blocks, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                    break;
                }
            }
            steps.fetch_add(warps.iter().map(|warp| warp.steps).sum(), Ordering::Relaxed);
        };
        let workers = rayon::current_num_threads().min(usize::try_from(blocks).unwrap_or(usize::MAX));
        rayon::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|_| work());
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => Err(fault),
            None => Ok(steps.into_inner()),
        }
    }
}

/// A state space (PTX ISA, "State Spaces").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Any of the others, by the address.
    Generic,
    /// The card's memory.
    Global,
    /// Memory of the block.
    Shared,
    /// Memory of the thread.
    Local,
}

/// Where an access goes.
pub enum Place {
    /// Memory of the card.
    Global(*mut u8),
    /// That byte of the block's memory.
    Shared(usize),
    /// That byte of the warp's own memory, which is the lanes' one after the other.
    Local(usize),
    /// That byte of the parameters.
    Parameter(usize),
}

impl Block<'_> {
    /// Looks an address up, and checks that what is accessed is there.
    #[inline]
    pub fn place(
        &mut self,
        warp: &Warp,
        lane: usize,
        space: Space,
        address: u64,
        bytes: usize,
    ) -> Result<Place, Box<Fault>> {
        if address & (bytes as u64 - 1) != 0 {
            let message = format!("{bytes} bytes at {address:#x} are not aligned");
            return Err(Fault::of(Class::Misaligned, message).lane(lane));
        }
        let offset = (address & u64::from(u32::MAX)) as usize;
        let space = match space {
            Space::Generic if address & WINDOW == SHARED => Space::Shared,
            Space::Generic if address & WINDOW == LOCAL => Space::Local,
            Space::Generic if address & WINDOW == PARAMETERS => {
                if offset + bytes > self.launch.parameters.len() {
                    return Err(outside("the parameters", address, bytes).lane(lane));
                }
                return Ok(Place::Parameter(offset));
            }
            Space::Generic => Space::Global,
            space => space,
        };
        match space {
            Space::Shared if offset + bytes <= self.shared.len() => Ok(Place::Shared(offset)),
            Space::Shared => Err(outside("memory of the block", address, bytes).lane(lane)),
            Space::Local if offset + bytes <= warp.local_bytes => {
                Ok(Place::Local(lane * warp.local_bytes + offset))
            }
            Space::Local => Err(outside("memory of the thread", address, bytes).lane(lane)),
            _ => {
                let end = address.wrapping_add(bytes as u64);
                if address < self.recent.0 || end > self.recent.1 || end < address {
                    let found = self.launch.memory.find(address).filter(|&(_, last)| end <= last);
                    self.recent =
                        found.ok_or_else(|| outside("all that is allocated", address, bytes).lane(lane))?;
                }
                Ok(Place::Global(address as *mut u8))
            }
        }
    }
}

fn outside(what: &str, address: u64, bytes: usize) -> Box<Fault> {
    Fault::of(Class::IllegalAddress, format!("{bytes} bytes at {address:#x} are outside of {what}"))
}

/// What the machine says of itself and of a thread's place (PTX ISA, "Special Registers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    Warps,
    LanesEqual,
    LanesLess,
    LanesLessEqual,
    LanesGreater,
    LanesGreaterEqual,
    Shared,
    DynamicShared,
    /// Clocks and numbers of units, which nothing may depend on.
    Nothing,
}

impl Special {
    /// The one of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix('%')?;
        let (register, axis) = name.split_once('.').unwrap_or((name, "x"));
        let axis = match axis {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return None,
        };
        Some(match register {
            "tid" => Self::Thread(axis),
            "ntid" => Self::Threads(axis),
            "ctaid" => Self::Block(axis),
            "nctaid" => Self::Blocks(axis),
            "laneid" => Self::Lane,
            "warpid" => Self::Warp,
            "nwarpid" => Self::Warps,
            "lanemask_eq" => Self::LanesEqual,
            "lanemask_lt" => Self::LanesLess,
            "lanemask_le" => Self::LanesLessEqual,
            "lanemask_gt" => Self::LanesGreater,
            "lanemask_ge" => Self::LanesGreaterEqual,
            "total_smem_size" => Self::Shared,
            "dynamic_smem_size" => Self::DynamicShared,
            "clock" | "clock_hi" | "clock64" | "globaltimer" | "globaltimer_lo" | "globaltimer_hi"
            | "smid" | "gridid" => Self::Nothing,
            _ => return None,
        })
    }

    /// What a lane reads.
    pub fn value(self, block: &Block<'_>, warp: usize, lane: usize) -> u64 {
        let launch = block.launch;
        let bit = 1_u64 << lane;
        let all = u64::from(u32::MAX);
        match self {
            Self::Thread(axis) => {
                let thread = (warp * LANES + lane) as u32;
                let [x, y, _] = launch.block;
                u64::from([thread % x, thread / x % y, thread / x / y][axis])
            }
            Self::Threads(axis) => u64::from(launch.block[axis]),
            Self::Block(axis) => u64::from(block.place[axis]),
            Self::Blocks(axis) => u64::from(launch.grid[axis]),
            Self::Lane => lane as u64,
            Self::Warp => warp as u64,
            Self::Warps => launch.threads().div_ceil(LANES) as u64,
            Self::LanesEqual => bit,
            Self::LanesLess => bit - 1,
            Self::LanesLessEqual => bit | (bit - 1),
            Self::LanesGreater => all & !(bit | (bit - 1)),
            Self::LanesGreaterEqual => all & !(bit - 1),
            Self::Shared => (launch.kernel.shared + launch.dynamic) as u64,
            Self::DynamicShared => launch.dynamic as u64,
            Self::Nothing => 0,
        }
    }
}

/// Nothing went wrong.
pub const DONE: Outcome = Ok(());

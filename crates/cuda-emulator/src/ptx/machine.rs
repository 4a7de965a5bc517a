//! Warps and blocks while they run.
//!
//! A warp's 32 lanes run in lockstep: an instruction is carried out for all lanes that stand at it. Where a branch parts them,
//! the lanes that stand at the lowest address go on first, so they meet the others again where the paths join. Lanes wait for
//! each other at instructions with `.sync`, and the threads of a block at barriers (PTX ISA, "Parallel Synchronization and
//! Communication Instructions").

use super::{
    fault::{Fault, Outcome},
    launch::{Launch, Place},
    races::{Races, Way},
};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// A register, of all lanes.
pub type Lanes = [u64; LANES];

/// The number of a register in a warp.
pub type Slot = u32;

/// What an instruction does, for the lanes whose bits are set.
pub type Action = Box<dyn Fn(&mut Warp, &mut Block<'_>, u32) -> Outcome + Send + Sync>;

/// A kind of step.
pub enum Step {
    /// Something that lanes do each for themselves.
    Act(Action),
    /// The same, for which all lanes that the mask in a register names have to have come.
    Together(Slot, Action),
    /// Going on elsewhere.
    Branch(u32),
    /// Going on at the place that the register says the number of.
    BranchTable(Slot, Vec<u32>),
    /// Going on in a function, with the place to come back to in a register.
    Call(u32, Slot),
    /// Coming back from a function.
    Return(Slot),
    /// Waiting for the threads of the block.
    Barrier(Barrier),
    /// The end.
    Exit,
}

/// A barrier, by the registers of its operands.
#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    /// Its number.
    pub id: Slot,
    /// How many threads it waits for; without it for all of the block.
    pub threads: Option<Slot>,
    /// What the threads find out together meanwhile.
    pub reduce: Option<Reduce>,
}

/// A question to all threads at a barrier.
#[derive(Clone, Copy, Debug)]
pub struct Reduce {
    /// What is asked.
    pub ask: Ask,
    /// The register of truth, or for a count the register, of the answer.
    pub into: Slot,
    /// Each thread's answer.
    pub from: Slot,
    /// Whether it is taken the other way round.
    pub not: bool,
}

/// What threads find out at a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whether it is so for all.
    All,
    /// Whether it is so for any.
    Any,
    /// For how many it is so.
    Count,
}

/// A step, and which lanes take it.
pub struct Instruction {
    /// The register of truth that says so, and whether by being false.
    pub guard: Option<(Slot, bool)>,
    /// What is done.
    pub step: Step,
    /// Where it stands in the text.
    pub span: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ready,
    /// At an instruction that other lanes have to come to.
    Held,
    /// At a barrier, of this number and for so many threads.
    AtBarrier(u32, Option<u32>),
}

/// Lanes that stand at the same instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    mask: u32,
    state: State,
}

/// 32 threads.
pub struct Warp {
    /// The registers.
    pub registers: Vec<Lanes>,
    /// The registers of truth: a bit for each lane.
    pub predicates: Vec<u32>,
    /// Memory of each lane's own, one after the other.
    pub local: Vec<u8>,
    /// How much of it a lane has.
    pub local_bytes: usize,
    /// Which of the block's warps it is.
    pub index: usize,
    /// The lanes that have not ended.
    pub live: u32,
    groups: Vec<Group>,
    /// Steps taken, each counted for all lanes that took it.
    pub steps: u64,
}

/// A block while it runs.
pub struct Block<'l> {
    /// What it is a part of.
    pub launch: &'l Launch<'l>,
    /// The memory its threads share.
    pub shared: Vec<u8>,
    /// Its place in the grid.
    pub place: [u32; 3],
    /// The allocation that was last accessed.
    pub recent: (u64, u64),
    /// How its warps use what they share, where that is looked at.
    pub races: Option<Races>,
}

impl Block<'_> {
    /// A lane uses memory of the block.
    #[inline]
    pub fn touch(&mut self, (warp, lane): (usize, usize), place: &Place, bytes: usize, way: Way) -> Outcome {
        match (&mut self.races, place) {
            (Some(races), Place::Shared(at)) => {
                races.note(warp, *at, bytes, way).map_err(|fault| fault.lane(lane))
            }
            _ => Ok(()),
        }
    }
}

impl Warp {
    /// A warp for a kernel, with memory for its registers.
    pub fn new(launch: &Launch<'_>, index: usize) -> Self {
        let kernel = launch.kernel;
        let mut registers = vec![[0; LANES]; kernel.registers];
        for &(slot, bits) in &kernel.constants {
            registers[slot as usize] = [bits; LANES];
        }
        Self {
            registers,
            predicates: vec![0; kernel.predicates],
            local: vec![0; kernel.local * LANES],
            local_bytes: kernel.local,
            index,
            live: 0,
            groups: Vec::new(),
            steps: 0,
        }
    }

    /// Puts it at the beginning of the kernel.
    pub fn begin(&mut self, block: &Block<'_>) {
        let threads = block.launch.threads();
        let first = self.index * LANES;
        self.live = if threads - first >= LANES { u32::MAX } else { (1 << (threads - first)) - 1 };
        self.groups.clear();
        // What was never written must not be taken for what another block left, nor for zero.
        self.local.fill(0xff);
        self.groups.push(Group { pc: 0, mask: self.live, state: State::Ready });
        for &(special, slot) in &block.launch.kernel.specials {
            self.registers[slot as usize] =
                std::array::from_fn(|lane| special.value(block, self.index, lane));
        }
    }

    /// Runs until no lane can go on without lanes of other warps.
    pub fn run(&mut self, block: &mut Block<'_>) -> Outcome {
        loop {
            let ready = (0..self.groups.len())
                .filter(|&index| self.groups[index].state == State::Ready)
                .min_by_key(|&index| self.groups[index].pc);
            let Some(index) = ready else {
                if self.release_held(block)? {
                    continue;
                }
                return Ok(());
            };
            let mut group = self.groups.swap_remove(index);
            // Lanes that wait at the same place for these ones.
            while let Some(same) = self
                .groups
                .iter()
                .position(|other| other.pc == group.pc && matches!(other.state, State::Ready | State::Held))
            {
                group.mask |= self.groups.swap_remove(same).mask;
            }
            self.run_group(group, block)?;
        }
    }

    /// Runs lanes until they part, end, wait, or have come to others.
    fn run_group(&mut self, group: Group, block: &mut Block<'_>) -> Outcome {
        let kernel = block.launch.kernel;
        let Group { mut pc, mask, .. } = group;
        let start = pc;
        let meet = self
            .groups
            .iter()
            .filter(|other| matches!(other.state, State::Ready | State::Held) && other.pc > pc)
            .map(|other| other.pc)
            .min()
            .unwrap_or(u32::MAX);
        loop {
            let instruction = &kernel.code[pc as usize];
            let active = match instruction.guard {
                None => mask,
                Some((slot, false)) => mask & self.predicates[slot as usize],
                Some((slot, true)) => mask & !self.predicates[slot as usize],
            };
            self.steps += u64::from(active.count_ones());
            if active != 0 {
                match &instruction.step {
                    Step::Act(action) => {
                        action(self, block, active).map_err(|fault| fault.at(block, self.index, pc))?;
                    }
                    Step::Together(slot, action) => {
                        let lane = active.trailing_zeros() as usize;
                        let wanted = self.registers[*slot as usize][lane] as u32 & self.live;
                        if wanted & !mask != 0 {
                            self.groups.push(Group { pc, mask, state: State::Held });
                            return Ok(());
                        }
                        action(self, block, active).map_err(|fault| fault.at(block, self.index, pc))?;
                    }
                    Step::Branch(target) => {
                        if active == mask {
                            pc = *target;
                            // Between the start and where it meets others no lanes stand.
                            if pc < meet && (pc > start || self.groups.is_empty()) {
                                continue;
                            }
                        } else {
                            self.groups.push(Group { pc: *target, mask: active, state: State::Ready });
                            self.groups.push(Group { pc: pc + 1, mask: mask & !active, state: State::Ready });
                            return Ok(());
                        }
                        self.groups.push(Group { pc, mask, state: State::Ready });
                        return Ok(());
                    }
                    Step::BranchTable(slot, targets) => {
                        let places = self.registers[*slot as usize];
                        self.part(mask & !active, pc + 1);
                        for lane in lanes(active) {
                            let Some(&target) = targets.get(places[lane] as u32 as usize) else {
                                let fault = Fault::new("a branch beyond its table");
                                return Err(fault.at(block, self.index, pc));
                            };
                            self.part(1 << lane, target);
                        }
                        return Ok(());
                    }
                    Step::Call(target, link) => {
                        for lane in lanes(active) {
                            self.registers[*link as usize][lane] = u64::from(pc + 1);
                        }
                        self.part(mask & !active, pc + 1);
                        self.part(active, *target);
                        return Ok(());
                    }
                    Step::Return(link) => {
                        let places = self.registers[*link as usize];
                        self.part(mask & !active, pc + 1);
                        for lane in lanes(active) {
                            self.part(1 << lane, places[lane] as u32);
                        }
                        return Ok(());
                    }
                    Step::Barrier(barrier) => {
                        let lane = active.trailing_zeros() as usize;
                        let id = self.registers[barrier.id as usize][lane] as u32;
                        let threads = barrier.threads.map(|slot| self.registers[slot as usize][lane] as u32);
                        self.part(mask & !active, pc + 1);
                        let state = State::AtBarrier(id, threads);
                        self.groups.push(Group { pc, mask: active, state });
                        return Ok(());
                    }
                    Step::Exit => {
                        self.live &= !active;
                        self.part(mask & !active, pc + 1);
                        return Ok(());
                    }
                }
            }
            pc += 1;
            if pc >= meet {
                self.groups.push(Group { pc, mask, state: State::Ready });
                return Ok(());
            }
        }
    }

    /// Lets lanes go on at a place, together with those that are there.
    fn part(&mut self, mask: u32, pc: u32) {
        if mask == 0 {
            return;
        }
        match self.groups.iter_mut().find(|group| group.pc == pc && group.state == State::Ready) {
            Some(group) => group.mask |= mask,
            None => self.groups.push(Group { pc, mask, state: State::Ready }),
        }
    }

    /// Lets lanes go on that waited for others which have ended since. Says whether there are any.
    fn release_held(&mut self, block: &Block<'_>) -> Result<bool, Box<Fault>> {
        let (live, mut held) = (self.live, None);
        for group in &mut self.groups {
            if group.state != State::Held {
                continue;
            }
            if let Step::Together(slot, _) = &block.launch.kernel.code[group.pc as usize].step {
                let lane = group.mask.trailing_zeros() as usize;
                let wanted = self.registers[*slot as usize][lane] as u32 & live;
                if wanted & !group.mask == 0 {
                    group.state = State::Ready;
                    return Ok(true);
                }
            }
            held = Some(group.pc);
        }
        let waits = self.groups.iter().any(|group| matches!(group.state, State::AtBarrier(..)));
        match held {
            Some(pc) if !waits => {
                let fault = Fault::new("lanes wait for lanes of their warp that never come");
                Err(fault.at(block, self.index, pc))
            }
            _ => Ok(false),
        }
    }

    /// Whether all of its lanes have ended.
    pub fn done(&self) -> bool {
        self.groups.is_empty()
    }
}

/// The numbers of the bits that are set.
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// Runs all warps of a block to their end.
pub fn run_block(warps: &mut [Warp], block: &mut Block<'_>) -> Outcome {
    for warp in warps.iter_mut() {
        warp.begin(block);
    }
    if let Some(races) = &mut block.races {
        races.pass();
    }
    loop {
        for warp in warps.iter_mut() {
            warp.run(block)?;
        }
        if warps.iter().all(Warp::done) {
            return Ok(());
        }
        release(warps, block)?;
    }
}

/// Lets threads go on at the barriers that enough of them have come to.
fn release(warps: &mut [Warp], block: &mut Block<'_>) -> Outcome {
    let waiting: Vec<(u32, Option<u32>, u32)> = warps
        .iter()
        .flat_map(|warp| &warp.groups)
        .filter_map(|group| match group.state {
            State::AtBarrier(id, threads) => Some((id, threads, group.mask.count_ones())),
            _ => None,
        })
        .collect();
    let live: u32 = warps.iter().map(|warp| warp.live.count_ones()).sum();
    let mut released = false;
    let mut ids: Vec<u32> = waiting.iter().map(|&(id, ..)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let here = waiting.iter().filter(|&&(other, ..)| other == id);
        let come: u32 = here.clone().map(|&(.., lanes)| lanes).sum();
        let wanted = here.filter_map(|&(_, threads, _)| threads).max().unwrap_or(live).min(live);
        if come < wanted {
            continue;
        }
        released = true;
        if come == live {
            if let Some(races) = &mut block.races {
                races.pass();
            }
        } else {
            // What a barrier of some threads orders is not kept account of.
            block.races = None;
        }
        answer(warps, block, id, come);
        for group in warps.iter_mut().flat_map(|warp| &mut warp.groups) {
            if matches!(group.state, State::AtBarrier(other, _) if other == id) {
                group.state = State::Ready;
                group.pc += 1;
            }
        }
    }
    if released {
        return Ok(());
    }
    let stuck = warps.iter().find_map(|warp| Some((warp.index, warp.groups.first()?.pc)));
    let (warp, pc) = stuck.unwrap_or_default();
    Err(Fault::new("threads wait for threads of their block that never come").at(block, warp, pc))
}

/// Tells all threads at a barrier what they asked.
fn answer(warps: &mut [Warp], block: &Block<'_>, id: u32, come: u32) {
    let asked = |warp: &Warp| -> Vec<(Reduce, u32)> {
        let groups = warp.groups.iter().filter_map(|group| match group.state {
            State::AtBarrier(other, _) if other == id => Some((group.pc, group.mask)),
            _ => None,
        });
        let code = &block.launch.kernel.code;
        groups
            .filter_map(|(pc, mask)| match &code[pc as usize].step {
                Step::Barrier(Barrier { reduce: Some(reduce), .. }) => Some((*reduce, mask)),
                _ => None,
            })
            .collect()
    };
    let mut count = 0;
    for warp in warps.iter() {
        for (reduce, mask) in asked(warp) {
            let so = warp.predicates[reduce.from as usize] ^ if reduce.not { u32::MAX } else { 0 };
            count += (so & mask).count_ones();
        }
    }
    for warp in warps.iter_mut() {
        for (reduce, mask) in asked(warp) {
            let so = match reduce.ask {
                Ask::All => count == come,
                Ask::Any => count > 0,
                Ask::Count => {
                    for lane in lanes(mask) {
                        warp.registers[reduce.into as usize][lane] = u64::from(count);
                    }
                    continue;
                }
            };
            let predicate = &mut warp.predicates[reduce.into as usize];
            *predicate = if so { *predicate | mask } else { *predicate & !mask };
        }
    }
}

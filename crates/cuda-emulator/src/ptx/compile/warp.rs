//! What the lanes of a warp do together (PTX ISA, "shfl.sync", "vote.sync", "match.sync", "redux.sync", "activemask").

use super::{Compiler, lanes::set};
use crate::ptx::{
    launch::DONE,
    machine::{Action, Slot, Step, lanes},
    statement::{Operand, Statement, Wrong},
    types::{Ty, Word},
};

impl<'t> Compiler<'t> {
    /// An instruction of this family, or of those on matrices.
    pub(super) fn together(&mut self, s: &Statement<'t>) -> Result<Option<Step>, Wrong> {
        let all = |action: Option<Action>, compiler: &mut Self| {
            action.map(|action| Step::Together(compiler.constant(u64::MAX), action))
        };
        match s.name {
            "shfl" if s.has("sync") => self.shuffle(s).map(Some),
            "vote" if s.has("sync") => self.vote(s).map(Some),
            "match" => self.find_equal(s).map(Some),
            "redux" => self.reduce(s),
            "bar" | "barrier" => {
                let mask = self.source(s.operands.first(), Ty::U32)?;
                Ok(Some(Step::Together(mask, Box::new(|_, _, _| DONE))))
            }
            "activemask" => {
                let d = self.target(s.operands.first())? as usize;
                Ok(Some(Step::Act(Box::new(move |warp, _, mask| {
                    for lane in lanes(mask) {
                        warp.registers[d][lane] = mask.into();
                    }
                    DONE
                }))))
            }
            "mma" => {
                let action = self.multiply_matrices(s)?;
                Ok(all(action, self))
            }
            "wmma" => {
                let action = self.matrix(s)?;
                Ok(all(action, self))
            }
            "ldmatrix" => {
                let action = self.load_matrices(s)?;
                Ok(all(action, self))
            }
            _ => Ok(None),
        }
    }

    fn shuffle(&mut self, s: &Statement<'t>) -> Result<Step, Wrong> {
        let (d, truth) = match s.operands.first() {
            Some(Operand::Pair(d, truth)) => {
                (self.target(Some(d))?, Some(self.truth_target(Some(truth))? as usize))
            }
            d => (self.target(d)?, None),
        };
        let a = self.source(s.operands.get(1), Ty::B32)? as usize;
        let b = self.source(s.operands.get(2), Ty::B32)? as usize;
        let c = self.source(s.operands.get(3), Ty::B32)? as usize;
        let members = self.source(s.operands.get(4), Ty::B32)?;
        let way = s.parts.get(1).copied().unwrap_or_default().to_owned();
        if !["up", "down", "bfly", "idx"].contains(&way.as_str()) {
            return Err("the instruction is not known".to_owned());
        }
        let way = way.as_bytes()[0];
        Ok(Step::Together(
            members,
            Box::new(move |warp, _, mask| {
                let given = warp.registers[a];
                let mut inside = 0;
                for lane in lanes(mask) {
                    let by = warp.registers[b][lane] as u32 & 31;
                    let c = warp.registers[c][lane] as u32;
                    let (clamp, segment) = (c & 31, c >> 8 & 31);
                    let this = lane as u32;
                    let last = (this & segment) | (clamp & !segment);
                    let first = this & segment;
                    let (from, within) = match way {
                        b'u' => (this.wrapping_sub(by), this as i32 - by as i32 >= last as i32),
                        b'd' => (this + by, this + by <= last),
                        b'b' => (this ^ by, this ^ by <= last),
                        _ => (first | (by & !segment), first | (by & !segment) <= last),
                    };
                    inside |= u32::from(within) << lane;
                    let from = if within { from } else { this };
                    warp.registers[d as usize][lane] = given[(from & 31) as usize];
                }
                if let Some(truth) = truth {
                    set(&mut warp.predicates[truth], inside, mask);
                }
                DONE
            }),
        ))
    }

    fn vote(&mut self, s: &Statement<'t>) -> Result<Step, Wrong> {
        let (from, not) = self.truth(s.operands.get(1))?;
        let turned = if not { u32::MAX } else { 0 };
        let members = self.source(s.operands.get(2), Ty::B32)?;
        let asked = move |predicates: &[u32], mask: u32| (predicates[from as usize] ^ turned) & mask;
        if s.has("ballot") {
            let d = self.target(s.operands.first())? as usize;
            let action: Action = Box::new(move |warp, _, mask| {
                let so = asked(&warp.predicates, mask);
                for lane in lanes(mask) {
                    warp.registers[d][lane] = so.into();
                }
                DONE
            });
            return Ok(Step::Together(members, action));
        }
        let d = self.truth_target(s.operands.first())? as usize;
        let way = s.parts.get(1).copied().unwrap_or_default().to_owned();
        let action: Action = Box::new(move |warp, _, mask| {
            let so = asked(&warp.predicates, mask);
            let answer = match way.as_str() {
                "all" => so == mask,
                "any" => so != 0,
                _ => so == 0 || so == mask,
            };
            set(&mut warp.predicates[d], if answer { u32::MAX } else { 0 }, mask);
            DONE
        });
        Ok(Step::Together(members, action))
    }

    fn find_equal(&mut self, s: &Statement<'t>) -> Result<Step, Wrong> {
        let (d, truth) = match s.operands.first() {
            Some(Operand::Pair(d, truth)) => {
                (self.target(Some(d))? as usize, Some(self.truth_target(Some(truth))? as usize))
            }
            d => (self.target(d)? as usize, None),
        };
        let ty = s.last_type().unwrap_or(Ty::B32);
        let a = self.source(s.operands.get(1), ty)? as usize;
        let members = self.source(s.operands.get(2), Ty::B32)?;
        let (wide, all) = (ty == Ty::B64, s.has("all"));
        let action: Action = Box::new(move |warp, _, mask| {
            let values = warp.registers[a].map(|value| if wide { value } else { value & 0xffff_ffff });
            let equal = |value: u64| {
                lanes(mask).filter(|&lane| values[lane] == value).fold(0, |bits, lane| bits | 1_u32 << lane)
            };
            for lane in lanes(mask) {
                let bits = equal(values[lane]);
                let bits = if all && bits != mask { 0 } else { bits };
                warp.registers[d][lane] = bits.into();
                if let Some(truth) = truth {
                    set(&mut warp.predicates[truth], if bits != 0 { u32::MAX } else { 0 }, 1 << lane);
                }
            }
            DONE
        });
        Ok(Step::Together(members, action))
    }

    fn reduce(&mut self, s: &Statement<'t>) -> Result<Option<Step>, Wrong> {
        let ty = s.last_type().unwrap_or(Ty::B32);
        let d = self.target(s.operands.first())?;
        let a = self.source(s.operands.get(1), ty)?;
        let members = self.source(s.operands.get(2), Ty::B32)?;
        let way = s.parts.get(1).copied().unwrap_or_default();
        let action = match (way, ty.signed()) {
            ("add", _) => folded(d, a, u32::wrapping_add),
            ("and", _) => folded(d, a, |a: u32, b| a & b),
            ("or", _) => folded(d, a, |a: u32, b| a | b),
            ("xor", _) => folded(d, a, |a: u32, b| a ^ b),
            ("min", true) => folded(d, a, |a: i32, b| a.min(b)),
            ("max", true) => folded(d, a, |a: i32, b| a.max(b)),
            ("min", false) => folded(d, a, |a: u32, b| a.min(b)),
            ("max", false) => folded(d, a, |a: u32, b| a.max(b)),
            _ => return Ok(None),
        };
        Ok(Some(Step::Together(members, action)))
    }
}

fn folded<T: Word>(d: Slot, a: Slot, work: fn(T, T) -> T) -> Action {
    Box::new(move |warp, _, mask| {
        let values = warp.registers[a as usize];
        if let Some(value) = lanes(mask).map(|lane| T::get(values[lane])).reduce(work) {
            for lane in lanes(mask) {
                warp.registers[d as usize][lane] = value.put();
            }
        }
        DONE
    })
}

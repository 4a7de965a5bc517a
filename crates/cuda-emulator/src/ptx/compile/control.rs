//! Branches, calls, barriers and ends (PTX ISA, "Control Flow Instructions").

use super::{Called, Compiler, Pending};
use crate::ptx::{
    fault::{Class, Fault},
    launch::{DONE, LOCAL},
    machine::{Action, Ask, Barrier, Reduce, Slot, Step, lanes},
    statement::{Operand, Statement, Wrong},
    types::Ty,
};

type Guard = Option<(Slot, bool)>;

impl<'t> Compiler<'t> {
    /// Whether an instruction is of this family; then its steps are made.
    pub(super) fn control(&mut self, s: &Statement<'t>, guard: Guard) -> Result<bool, Wrong> {
        let step = match s.name {
            "bra" => {
                let Some(Operand::Name(label)) = s.operands.first() else {
                    return Err("a branch without a place".to_owned());
                };
                self.pending.push(Pending { step: self.code.len(), scope: self.scopes.now(), label });
                Step::Branch(0)
            }
            "brx" => {
                let index = self.source(s.operands.first(), Ty::U32)?;
                let Some(Operand::Name(label)) = s.operands.get(1) else {
                    return Err("a branch without a table".to_owned());
                };
                self.tables.push(Pending { step: self.code.len(), scope: self.scopes.now(), label });
                Step::BranchTable(index, Vec::new())
            }
            "call" => return self.call(s, guard).map(|()| true),
            "ret" => self.link.map_or(Step::Exit, Step::Return),
            "exit" => Step::Exit,
            "trap" => Step::Act(Box::new(|_, _, mask| {
                Err(Fault::new("a trap").lane(mask.trailing_zeros() as usize))
            })),
            "brkpt" => Step::Act(Box::new(|_, _, _| DONE)),
            "bar" | "barrier" if !s.has("warp") => Step::Barrier(self.barrier(s)?),
            _ => return Ok(false),
        };
        self.push(guard, step, s.span);
        Ok(true)
    }

    fn barrier(&mut self, s: &Statement<'t>) -> Result<Barrier, Wrong> {
        let reduces = s.has("red");
        if !s.has("sync") && !reduces {
            return Err("the instruction is not known".to_owned());
        }
        let mut operands = s.operands.iter().collect::<Vec<_>>();
        let mut reduce = None;
        if reduces {
            let (Some(from), false) = (operands.pop(), operands.is_empty()) else {
                return Err("an operand is missing".to_owned());
            };
            let into = operands.remove(0);
            let ask = match () {
                () if s.has("and") => Ask::All,
                () if s.has("or") => Ask::Any,
                () => Ask::Count,
            };
            let into =
                if ask == Ask::Count { self.target(Some(into))? } else { self.truth_target(Some(into))? };
            let (from, not) = self.truth(Some(from))?;
            reduce = Some(Reduce { ask, into, from, not });
        }
        let id = match operands.first() {
            Some(&id) => self.source(Some(id), Ty::U32)?,
            None => self.constant(0),
        };
        let threads = match operands.get(1) {
            Some(&threads) => Some(self.source(Some(threads), Ty::U32)?),
            None => None,
        };
        Ok(Barrier { id, threads, reduce })
    }

    fn call(&mut self, s: &Statement<'t>, guard: Guard) -> Result<(), Wrong> {
        let (mut returns, mut parameters, mut name) = (&[][..], &[][..], None);
        for operand in &s.operands {
            match operand {
                Operand::List(list) if name.is_none() => returns = list,
                Operand::List(list) => parameters = list,
                Operand::Name(function) if name.is_none() => name = Some(*function),
                other => return Err(format!("{other:?} in a call")),
            }
        }
        let name = name.ok_or("a call of nothing")?;
        match name {
            // What kernels print is not shown; they get told that nothing was printed.
            "vprintf" => {
                for operand in returns {
                    let into = self.parameter(operand)?;
                    self.push(guard, Step::Act(fill(into, 4)), s.span);
                }
                return Ok(());
            }
            "__assertfail" => {
                let failed: Action = Box::new(|_, _, mask| {
                    let fault = Fault::of(Class::Assertion, "an assertion that doesn't hold");
                    Err(fault.lane(mask.trailing_zeros() as usize))
                });
                self.push(guard, Step::Act(failed), s.span);
                return Ok(());
            }
            _ => {}
        }
        let called = self.called(name)?;
        if parameters.len() != called.parameters.len() || returns.len() != called.returns.len() {
            return Err(format!("{name} takes other parameters"));
        }
        for (operand, &(into, bytes)) in parameters.iter().zip(&called.parameters) {
            let from = self.parameter(operand)?;
            self.push(guard, Step::Act(pass(into - LOCAL, from, bytes)), s.span);
        }
        self.calls.push((self.code.len(), name.to_owned()));
        self.push(guard, Step::Call(0, called.link), s.span);
        for (operand, &(from, bytes)) in returns.iter().zip(&called.returns) {
            let into = self.parameter(operand)?;
            self.push(guard, Step::Act(pass(into, from - LOCAL, bytes)), s.span);
        }
        Ok(())
    }

    /// Where in the thread's memory a parameter of a call lies.
    fn parameter(&self, operand: &Operand<'t>) -> Result<u64, Wrong> {
        let Operand::Name(name) = operand else { return Err(format!("{operand:?} as a parameter")) };
        match self.scopes.find(name) {
            Some(super::scope::Binding::Address(address)) if address >= LOCAL => Ok(address - LOCAL),
            _ => Err(format!("{name} as a parameter")),
        }
    }

    fn called(&mut self, name: &str) -> Result<Called, Wrong> {
        if let Some(called) = self.called.get(name) {
            return Ok(called.clone());
        }
        let module = self.module;
        let function = module.functions.get(name).ok_or_else(|| format!("no function is called {name}"))?;
        let mut rooms = |list: &[crate::ptx::module::Parameter]| -> Vec<(u64, usize)> {
            list.iter().map(|parameter| (LOCAL + self.room(parameter.bytes, 16), parameter.bytes)).collect()
        };
        let (parameters, returns) = (rooms(&function.parameters), rooms(&function.returns));
        let called = Called { begin: None, link: self.register(), parameters, returns };
        self.called.insert(name.to_owned(), called.clone());
        self.queue.push_back(name.to_owned());
        Ok(called)
    }
}

/// Copies within the threads' own memory.
fn pass(into: u64, from: u64, bytes: usize) -> Action {
    let (into, from) = (into as usize, from as usize);
    Box::new(move |warp, _, mask| {
        for lane in lanes(mask) {
            let base = lane * warp.local_bytes;
            warp.local.copy_within(base + from..base + from + bytes, base + into);
        }
        DONE
    })
}

/// Writes zero into the threads' own memory.
fn fill(into: u64, bytes: usize) -> Action {
    Box::new(move |warp, _, mask| {
        for lane in lanes(mask) {
            let base = lane * warp.local_bytes + into as usize;
            warp.local[base..base + bytes].fill(0);
        }
        DONE
    })
}

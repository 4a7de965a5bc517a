//! Makes steps of a kernel's text: names become numbers of registers, and each instruction a function that does it for all lanes
//! of a warp. Numbers in the text and special registers become registers too, which are filled before the kernel runs, so that
//! an instruction's operands are registers only.

mod atomic;
mod bits;
mod compare;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod lanes;
mod matrix;
mod memory;
mod scope;
mod tensor;
mod warp;

use std::collections::{HashMap, VecDeque};

use self::scope::Scopes;
use super::{
    launch::{Kernel, LOCAL, PARAMETERS, Special},
    machine::{Action, Instruction, Slot, Step},
    module::{Function, Module},
    statement::{Item, Operand, Reader, Statement, Variable, Wrong},
    types::Ty,
};

/// The register of truth that holds the carry (PTX ISA, "Extended-Precision Integer Arithmetic Instructions").
const CARRY: Slot = 0;

/// Where a function that is called has its things. There is one of each for a kernel, so a function can't call itself.
#[derive(Clone)]
struct Called {
    /// Its first step, once that is known.
    begin: Option<u32>,
    /// The register that says where to go on after it.
    link: Slot,
    /// Addresses of the parameters, and of what it returns.
    parameters: Vec<(u64, usize)>,
    returns: Vec<(u64, usize)>,
}

/// A branch whose target is not known yet.
struct Pending<'t> {
    step: usize,
    scope: usize,
    label: &'t str,
}

/// Works on a kernel and the functions that it calls.
pub(super) struct Compiler<'t> {
    module: &'t Module,
    globals: &'t HashMap<String, u64>,
    code: Vec<Instruction>,
    registers: usize,
    predicates: usize,
    constants: HashMap<u64, Slot>,
    specials: Vec<(Special, Slot)>,
    shared: usize,
    /// The register with the address behind all declared shared memory.
    dynamic: Option<Slot>,
    shared_of_module: HashMap<String, u64>,
    local: usize,
    scopes: Scopes<'t>,
    pending: Vec<Pending<'t>>,
    tables: Vec<Pending<'t>>,
    called: HashMap<String, Called>,
    calls: Vec<(usize, String)>,
    queue: VecDeque<String>,
    link: Option<Slot>,
}

/// Makes steps of a kernel. `globals` are the addresses of the module's variables.
///
/// # Errors
///
/// What of it is not understood.
pub fn compile(module: &Module, name: &str, globals: &HashMap<String, u64>) -> Result<Kernel, Wrong> {
    let function = module.functions.get(name).ok_or_else(|| format!("no function is called {name}"))?;
    let mut compiler = Compiler {
        module,
        globals,
        code: Vec::new(),
        registers: 0,
        predicates: 1,
        constants: HashMap::new(),
        specials: Vec::new(),
        shared: 0,
        dynamic: None,
        shared_of_module: HashMap::new(),
        local: 0,
        scopes: Scopes::default(),
        pending: Vec::new(),
        tables: Vec::new(),
        called: HashMap::new(),
        calls: Vec::new(),
        queue: VecDeque::new(),
        link: None,
    };
    compiler.scopes.begin();
    for parameter in &function.parameters {
        compiler.scopes.address(&parameter.name, PARAMETERS + parameter.offset as u64);
    }
    compiler.body(function)?;
    while let Some(name) = compiler.queue.pop_front() {
        compiler.function(&name)?;
    }
    compiler.finish(function)
}

impl<'t> Compiler<'t> {
    /// A function that is called.
    fn function(&mut self, name: &str) -> Result<(), Wrong> {
        let module = self.module;
        let function = module.functions.get(name).ok_or_else(|| format!("no function is called {name}"))?;
        let called = self.called.get_mut(name).ok_or("a function that nothing calls")?;
        called.begin = Some(self.code.len() as u32);
        let called = called.clone();
        self.link = Some(called.link);
        self.scopes.begin();
        for (parameter, &(address, _)) in function.parameters.iter().zip(&called.parameters) {
            self.scopes.address(&parameter.name, address);
        }
        for (parameter, &(address, _)) in function.returns.iter().zip(&called.returns) {
            self.scopes.address(&parameter.name, address);
        }
        self.body(function)
    }

    fn body(&mut self, function: &'t Function) -> Result<(), Wrong> {
        let body = function.body.clone().ok_or_else(|| format!("{} has no body", function.name))?;
        let mut reader = Reader::new(&self.module.text, body.start);
        let mut depth = 0;
        while let Some(item) = reader.item(&mut depth)? {
            match item {
                Item::Open => self.scopes.open(),
                Item::Close => self.scopes.close(),
                Item::Label(name) => {
                    self.scopes.label(name, self.code.len() as u32);
                }
                Item::Targets(labels) => self.scopes.table(labels),
                Item::Declaration(variable) => self.declare(&variable)?,
                Item::Statement(statement) => {
                    let text = &self.module.text[statement.span.0..statement.span.1];
                    self.statement(&statement).map_err(|wrong| {
                        format!("{wrong}: `{}`", text.split_whitespace().collect::<Vec<_>>().join(" "))
                    })?;
                }
            }
        }
        // A body may end without an instruction that leaves it.
        let step = self.link.map_or(Step::Exit, Step::Return);
        let end = reader.at();
        self.push(None, step, (end, end));
        for pending in std::mem::take(&mut self.pending) {
            let target = self.scopes.place(pending.scope, pending.label);
            let target = target.ok_or_else(|| format!("no place is called {}", pending.label))?;
            self.code[pending.step].step = Step::Branch(target);
        }
        for pending in std::mem::take(&mut self.tables) {
            let labels = self.scopes.targets(pending.scope, pending.label);
            let labels = labels.ok_or_else(|| format!("no table is called {}", pending.label))?;
            let places: Option<Vec<u32>> =
                labels.iter().map(|label| self.scopes.place(pending.scope, label)).collect();
            let places = places.ok_or_else(|| format!("a place in {} is not known", pending.label))?;
            if let Step::BranchTable(_, targets) = &mut self.code[pending.step].step {
                *targets = places;
            }
        }
        Ok(())
    }

    fn finish(mut self, function: &Function) -> Result<Kernel, Wrong> {
        for (step, name) in std::mem::take(&mut self.calls) {
            let begin = self.called.get(&name).and_then(|called| called.begin);
            if let Step::Call(target, _) = &mut self.code[step].step {
                *target = begin.ok_or_else(|| format!("{name} is called and has no body"))?;
            }
        }
        let shared = self.shared.next_multiple_of(16);
        let mut constants: Vec<(Slot, u64)> =
            self.constants.iter().map(|(&bits, &slot)| (slot, bits)).collect();
        constants.extend(self.dynamic.map(|slot| (slot, shared as u64)));
        Ok(Kernel {
            name: function.name.clone(),
            text: self.module.text.clone(),
            code: self.code,
            registers: self.registers,
            predicates: self.predicates,
            constants,
            specials: self.specials,
            shared: if self.dynamic.is_some() { shared } else { self.shared },
            local: self.local.next_multiple_of(16),
            parameters: function.parameters.clone(),
            max_threads: function.max_threads,
        })
    }

    fn push(&mut self, guard: Option<(Slot, bool)>, step: Step, span: (usize, usize)) {
        self.code.push(Instruction { guard, step, span: (span.0 as u32, span.1 as u32) });
    }

    fn statement(&mut self, statement: &Statement<'t>) -> Result<(), Wrong> {
        let guard = match statement.guard {
            Some((name, not)) => Some((self.truth_named(name)?, not)),
            None => None,
        };
        if self.control(statement, guard)? {
            return Ok(());
        }
        let step = match self.together(statement)? {
            Some(step) => step,
            None => Step::Act(self.action(statement)?),
        };
        self.push(guard, step, statement.span);
        Ok(())
    }

    /// An instruction that lanes do each for themselves.
    fn action(&mut self, s: &Statement<'t>) -> Result<Action, Wrong> {
        type Family<'t> = fn(&mut Compiler<'t>, &Statement<'t>) -> Result<Option<Action>, Wrong>;
        let families: [Family<'t>; 8] = [
            Self::memory,
            Self::compare,
            Self::convert,
            Self::bits,
            Self::half,
            Self::float,
            Self::integer,
            Self::atomic,
        ];
        for family in families {
            if let Some(action) = family(self, s)? {
                return Ok(action);
            }
        }
        Err("the instruction is not known".to_owned())
    }

    fn declare(&mut self, variable: &Variable<'t>) -> Result<(), Wrong> {
        for &(name, many) in &variable.names {
            match variable.space {
                "reg" => {
                    let truth = variable.ty == Some(Ty::Pred);
                    self.scopes.registers(name, many, truth);
                }
                "local" | "param" => {
                    let bytes = variable.bytes.ok_or("memory of a thread without a size")?;
                    let offset = self.room(bytes, variable.align);
                    let base = if variable.space == "param" { LOCAL } else { 0 };
                    self.scopes.address(name, base + offset);
                }
                "shared" => match variable.bytes {
                    Some(bytes) => {
                        let offset = self.shared_room(bytes, variable.align);
                        self.scopes.address(name, offset);
                    }
                    None => self.scopes.dynamic(name),
                },
                space => return Err(format!("{name} is declared in the space {space} within a body")),
            }
        }
        Ok(())
    }

    /// Room in the thread's memory.
    fn room(&mut self, bytes: usize, align: usize) -> u64 {
        let offset = self.local.next_multiple_of(align.max(8));
        self.local = offset + bytes;
        offset as u64
    }

    /// Room in the block's memory.
    fn shared_room(&mut self, bytes: usize, align: usize) -> u64 {
        let offset = self.shared.next_multiple_of(align.max(1));
        self.shared = offset + bytes;
        offset as u64
    }

    /// A new register.
    fn register(&mut self) -> Slot {
        self.registers += 1;
        (self.registers - 1) as Slot
    }

    /// A new register of truth.
    fn truth_register(&mut self) -> Slot {
        self.predicates += 1;
        (self.predicates - 1) as Slot
    }

    /// The register that holds a number.
    fn constant(&mut self, bits: u64) -> Slot {
        if let Some(&slot) = self.constants.get(&bits) {
            return slot;
        }
        let slot = self.register();
        self.constants.insert(bits, slot);
        slot
    }

    fn special(&mut self, special: Special) -> Slot {
        if let Some(&(_, slot)) = self.specials.iter().find(|&&(other, _)| other == special) {
            return slot;
        }
        let slot = self.register();
        self.specials.push((special, slot));
        slot
    }

    /// The register that a name means: one of the text, a special one, or one that holds a variable's address.
    fn named(&mut self, name: &str) -> Result<Slot, Wrong> {
        use scope::Binding;
        match self.scopes.find(name) {
            Some(Binding::Register(slot)) => return Ok(slot),
            Some(Binding::Address(address)) => return Ok(self.constant(address)),
            Some(Binding::Dynamic) => return Ok(self.dynamic_shared()),
            Some(Binding::NewRegister) => {
                let slot = self.register();
                self.scopes.bind(name, Binding::Register(slot));
                return Ok(slot);
            }
            Some(Binding::Truth(_) | Binding::NewTruth) => {
                return Err(format!("{name} is a register of truth"));
            }
            None => {}
        }
        if let Some(special) = Special::parse(name) {
            return Ok(self.special(special));
        }
        if name == "WARP_SZ" {
            return Ok(self.constant(32));
        }
        if let Some(&address) = self.globals.get(name).or_else(|| self.shared_of_module.get(name)) {
            return Ok(self.constant(address));
        }
        let module = self.module;
        let shared = module.globals.iter().find(|global| global.name == name && global.space == "shared");
        let shared = shared.ok_or_else(|| format!("nothing is called {name}"))?;
        let Some(bytes) = shared.bytes else { return Ok(self.dynamic_shared()) };
        let address = self.shared_room(bytes, shared.align);
        self.shared_of_module.insert(name.to_owned(), address);
        Ok(self.constant(address))
    }

    fn dynamic_shared(&mut self) -> Slot {
        if let Some(slot) = self.dynamic {
            return slot;
        }
        let slot = self.register();
        self.dynamic = Some(slot);
        slot
    }

    fn truth_named(&mut self, name: &str) -> Result<Slot, Wrong> {
        use scope::Binding;
        match self.scopes.find(name) {
            Some(Binding::Truth(slot)) => Ok(slot),
            Some(Binding::NewTruth) => {
                let slot = self.truth_register();
                self.scopes.bind(name, Binding::Truth(slot));
                Ok(slot)
            }
            _ => Err(format!("{name} is no register of truth")),
        }
    }

    /// An operand that is read.
    fn source(&mut self, operand: Option<&Operand<'t>>, ty: Ty) -> Result<Slot, Wrong> {
        match operand.ok_or("an operand is missing")? {
            Operand::Name(name) => self.named(name),
            Operand::Bits(bits) => Ok(self.constant(*bits)),
            Operand::Decimal(value) => Ok(self.constant(ty.literal(*value))),
            Operand::Address(Some(name), 0) => self.named(name),
            other => Err(format!("{other:?} can't be read as a number")),
        }
    }

    /// An operand that is written.
    fn target(&mut self, operand: Option<&Operand<'t>>) -> Result<Slot, Wrong> {
        match operand.ok_or("an operand is missing")? {
            Operand::Name("_") => Ok(self.register()),
            Operand::Name(name) => self.named(name),
            other => Err(format!("{other:?} can't be written")),
        }
    }

    /// A register of truth that is read, and whether it is taken the other way round. A number is one that never changes.
    fn truth(&mut self, operand: Option<&Operand<'t>>) -> Result<(Slot, bool), Wrong> {
        match operand.ok_or("an operand is missing")? {
            Operand::Name(name) => Ok((self.truth_named(name)?, false)),
            Operand::Not(name) => Ok((self.truth_named(name)?, true)),
            // A fresh register is false, and stays it.
            Operand::Bits(bits) => Ok((self.truth_register(), *bits != 0)),
            other => Err(format!("{other:?} is no register of truth")),
        }
    }

    /// A register of truth that is written.
    fn truth_target(&mut self, operand: Option<&Operand<'t>>) -> Result<Slot, Wrong> {
        match operand.ok_or("an operand is missing")? {
            Operand::Name("_") => Ok(self.truth_register()),
            Operand::Name(name) => self.truth_named(name),
            other => Err(format!("{other:?} can't be written as a truth")),
        }
    }
}

//! What names mean within braces.

use std::collections::HashMap;

use crate::ptx::machine::Slot;

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Binding {
    /// A register.
    Register(Slot),
    /// A register of truth.
    Truth(Slot),
    /// A register that has no number yet.
    NewRegister,
    /// A register of truth that has no number yet.
    NewTruth,
    /// The address of a variable.
    Address(u64),
    /// The shared memory that a launch asks for.
    Dynamic,
}

#[derive(Default)]
struct Scope<'t> {
    parent: Option<usize>,
    names: HashMap<String, Binding>,
    /// Registers that are declared by the row, as `%r<4>`, with how many there are and whether they are of truth.
    rows: Vec<(&'t str, usize, bool)>,
    labels: HashMap<&'t str, u32>,
    tables: HashMap<&'t str, Vec<&'t str>>,
}

/// The scopes of a function.
#[derive(Default)]
pub struct Scopes<'t> {
    all: Vec<Scope<'t>>,
    now: usize,
    last_label: Option<&'t str>,
}

impl<'t> Scopes<'t> {
    /// Begins with a function.
    pub fn begin(&mut self) {
        self.all = vec![Scope::default()];
        self.now = 0;
    }

    /// Opens a scope.
    pub fn open(&mut self) {
        self.all.push(Scope { parent: Some(self.now), ..Scope::default() });
        self.now = self.all.len() - 1;
    }

    /// Closes the scope opened last.
    pub fn close(&mut self) {
        self.now = self.all[self.now].parent.unwrap_or(0);
    }

    /// Which scope is open.
    pub fn now(&self) -> usize {
        self.now
    }

    /// Declares a register or a row of them.
    pub fn registers(&mut self, name: &'t str, many: Option<usize>, truth: bool) {
        let scope = &mut self.all[self.now];
        match many {
            Some(many) => scope.rows.push((name, many, truth)),
            None => {
                let binding = if truth { Binding::NewTruth } else { Binding::NewRegister };
                scope.names.insert(name.to_owned(), binding);
            }
        }
    }

    /// Declares a variable.
    pub fn address(&mut self, name: &str, address: u64) {
        self.all[self.now].names.insert(name.to_owned(), Binding::Address(address));
    }

    /// Declares the shared memory that a launch asks for.
    pub fn dynamic(&mut self, name: &str) {
        self.all[self.now].names.insert(name.to_owned(), Binding::Dynamic);
    }

    /// Declares a place.
    pub fn label(&mut self, name: &'t str, step: u32) {
        self.all[self.now].labels.insert(name, step);
        self.last_label = Some(name);
    }

    /// Declares that the label before this is one of a table of places.
    pub fn table(&mut self, labels: Vec<&'t str>) {
        if let Some(name) = self.last_label {
            self.all[self.now].tables.insert(name, labels);
        }
    }

    /// The scope from which a name is found, innermost first.
    fn outwards(&self, from: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(from), |&scope| self.all[scope].parent)
    }

    /// The scope that a name is declared in, and what it means.
    fn declared(&self, name: &str) -> Option<(usize, Binding)> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: Option<usize> = name[prefix.len()..].parse().ok();
        self.outwards(self.now).find_map(|index| {
            let scope = &self.all[index];
            if let Some(&binding) = scope.names.get(name) {
                return Some((index, binding));
            }
            let number = number?;
            let row = scope.rows.iter().find(|&&(row, many, _)| row == prefix && number < many)?;
            Some((index, if row.2 { Binding::NewTruth } else { Binding::NewRegister }))
        })
    }

    /// What a name means.
    pub fn find(&self, name: &str) -> Option<Binding> {
        self.declared(name).map(|(_, binding)| binding)
    }

    /// Gives a declared register its number.
    pub fn bind(&mut self, name: &str, binding: Binding) {
        if let Some((scope, _)) = self.declared(name) {
            self.all[scope].names.insert(name.to_owned(), binding);
        }
    }

    /// The step that a label of a scope names.
    pub fn place(&self, from: usize, label: &str) -> Option<u32> {
        self.outwards(from).find_map(|scope| self.all[scope].labels.get(label).copied())
    }

    /// The labels of a table.
    pub fn targets(&self, from: usize, label: &str) -> Option<Vec<&'t str>> {
        self.outwards(from).find_map(|scope| self.all[scope].tables.get(label).cloned())
    }
}

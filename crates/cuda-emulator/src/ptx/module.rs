//! A module: a text of PTX with its functions and variables. Of the functions only the heads are read; a body is read when the
//! kernel is first launched.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    lexer::Kind,
    statement::{Reader, Variable, Wrong},
};

/// A parameter of a function.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name in the body.
    pub name: String,
    /// Where it lies among the parameters.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// A function's head, and where the body is.
#[derive(Clone, Debug)]
pub struct Function {
    /// What it is called.
    pub name: String,
    /// Whether it can be launched.
    pub entry: bool,
    /// What it returns.
    pub returns: Vec<Parameter>,
    /// What it takes.
    pub parameters: Vec<Parameter>,
    /// The body without its braces, unless there is none here.
    pub body: Option<Range<usize>>,
    /// The most threads of a block, where that is said.
    pub max_threads: Option<usize>,
}

impl Function {
    /// How many bytes the parameters take.
    pub fn parameter_bytes(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.bytes)
    }
}

/// A variable of the whole module.
#[derive(Clone, Debug)]
pub struct Global {
    /// What it is called.
    pub name: String,
    /// `global`, `const` or `shared`.
    pub space: String,
    /// Its size, or nothing where a launch says it.
    pub bytes: Option<usize>,
    /// What its address is a multiple of.
    pub align: usize,
    /// What it holds at first, by bytes.
    pub initial: Vec<u8>,
}

/// A text of PTX.
#[derive(Debug)]
pub struct Module {
    /// The text.
    pub text: Arc<str>,
    /// The functions by name.
    pub functions: HashMap<String, Function>,
    /// The variables.
    pub globals: Vec<Global>,
}

impl Module {
    /// Reads the heads of all functions.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, Wrong> {
        let text = text.into();
        let mut functions: HashMap<String, Function> = HashMap::new();
        let mut globals = Vec::new();
        let mut reader = Reader::new(&text, 0);
        while let Some(token) = reader.take() {
            match token {
                Kind::Word(".version" | ".target" | ".address_size" | ".file" | ".loc") => {
                    reader.skip_line();
                }
                Kind::Word(".section") => {
                    while !reader.sign(b'{') {
                        reader.take();
                    }
                    let _ = reader.skip_body(&text);
                }
                Kind::Word(".visible" | ".weak" | ".extern" | ".common") | Kind::Sign(b';') => {}
                Kind::Word(kind @ (".entry" | ".func")) => {
                    let function = function(&mut reader, &text, kind == ".entry")?;
                    let known = functions.get(&function.name).is_some_and(|known| known.body.is_some());
                    if !known {
                        functions.insert(function.name.clone(), function);
                    }
                }
                Kind::Word(space @ (".global" | ".const" | ".shared")) => {
                    let variable = reader.declaration(&space[1..])?;
                    globals.push(global(&variable));
                }
                other => {
                    return Err(format!(
                        "{other:?} stands outside of all functions, at byte {}",
                        reader.at()
                    ));
                }
            }
        }
        Ok(Self { functions, globals, text: text.clone() })
    }
}

fn global(variable: &Variable<'_>) -> Global {
    let width = variable.ty.map_or(1, super::types::Ty::bytes);
    let mut initial: Vec<u8> =
        variable.initial.iter().flat_map(|bits| bits.to_le_bytes()[..width].to_vec()).collect();
    if let Some(bytes) = variable.bytes {
        initial.resize(bytes, 0);
    }
    Global {
        name: variable.names.first().map(|(name, _)| (*name).to_owned()).unwrap_or_default(),
        space: variable.space.to_owned(),
        bytes: variable.bytes,
        align: variable.align,
        initial,
    }
}

fn function<'t>(reader: &mut Reader<'t>, text: &'t str, entry: bool) -> Result<Function, Wrong> {
    let returns = if reader.sign(b'(') { parameters(reader)? } else { Vec::new() };
    let name = reader.word()?.to_owned();
    let parameters = if reader.sign(b'(') { parameters(reader)? } else { Vec::new() };
    let mut function = Function { name, entry, returns, parameters, body: None, max_threads: None };
    loop {
        match reader.take() {
            Some(Kind::Sign(b'{')) => {
                let begin = reader.skip_body(text);
                function.body = Some(begin..text.len());
                return Ok(function);
            }
            Some(Kind::Word(".maxntid")) => {
                let mut threads = 1;
                loop {
                    threads *= reader.word()?.parse::<usize>().map_err(|error| error.to_string())?;
                    if !reader.sign(b',') {
                        break;
                    }
                }
                function.max_threads = Some(threads);
            }
            Some(Kind::Sign(b';')) => return Ok(function),
            Some(Kind::Word(_) | Kind::Sign(b',')) => {}
            other => return Err(format!("{other:?} in the head of {}", function.name)),
        }
    }
}

fn parameters(reader: &mut Reader<'_>) -> Result<Vec<Parameter>, Wrong> {
    let mut parameters: Vec<Parameter> = Vec::new();
    while !reader.sign(b')') {
        let space = reader.word()?;
        if !matches!(space, ".param" | ".reg") {
            return Err(format!("{space} among parameters"));
        }
        let variable = reader.declaration("param")?;
        let end = parameters.last().map_or(0, |last| last.offset + last.bytes);
        parameters.push(Parameter {
            name: variable.names.first().map(|(name, _)| (*name).to_owned()).unwrap_or_default(),
            offset: end.next_multiple_of(variable.align),
            bytes: variable.bytes.unwrap_or(0),
        });
        reader.sign(b',');
    }
    Ok(parameters)
}

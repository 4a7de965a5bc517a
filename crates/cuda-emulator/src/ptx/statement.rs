//! Statements of a body: an instruction with its operands, a label, a declaration.

use super::{
    lexer::{Kind, Lexer, Token},
    types::Ty,
};

/// What an instruction works on.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'t> {
    /// A register, a variable, a label.
    Name(&'t str),
    /// A register of truth that is taken the other way round.
    Not(&'t str),
    /// A number by its bits.
    Bits(u64),
    /// A number that is written as a decimal fraction.
    Decimal(f64),
    /// `[base+offset]`.
    Address(Option<&'t str>, i64),
    /// `{a, b}` or `(a, b)`.
    List(Vec<Operand<'t>>),
    /// `a|b`.
    Pair(Box<Operand<'t>>, Box<Operand<'t>>),
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Statement<'t> {
    /// The register that says whether a lane takes part, and whether by being false.
    pub guard: Option<(&'t str, bool)>,
    /// The first part of the name.
    pub name: &'t str,
    /// The other parts, types among them.
    pub parts: Vec<&'t str>,
    /// The types among the parts.
    pub types: Vec<Ty>,
    /// What it works on.
    pub operands: Vec<Operand<'t>>,
    /// Where its text begins and ends.
    pub span: (usize, usize),
}

impl Statement<'_> {
    /// Whether the name has a part.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(&part)
    }

    /// The last type in the name.
    pub fn last_type(&self) -> Option<Ty> {
        self.types.last().copied()
    }
}

/// A variable: `.shared .align 4 .b8 name[12]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variable<'t> {
    /// The state space, without the dot.
    pub space: &'t str,
    /// What it is called. Of a row of registers (`%r<4>`) the part that all share.
    pub names: Vec<(&'t str, Option<usize>)>,
    /// How many bytes, or nothing where that is said at the launch.
    pub bytes: Option<usize>,
    /// What its address is a multiple of.
    pub align: usize,
    /// The type of an element.
    pub ty: Option<Ty>,
    /// What it holds at first.
    pub initial: Vec<u64>,
}

/// A part of a body.
#[derive(Clone, Debug)]
pub enum Item<'t> {
    /// `{`: names declared from here on are forgotten at the `}`.
    Open,
    /// `}`.
    Close,
    /// A place to branch to.
    Label(&'t str),
    /// `.branchtargets`, with the label before it.
    Targets(Vec<&'t str>),
    /// Variables or registers.
    Declaration(Variable<'t>),
    /// An instruction.
    Statement(Statement<'t>),
}

/// Reads tokens one after the other.
pub struct Reader<'t> {
    lexer: Lexer<'t>,
    next: Option<Token<'t>>,
}

/// What is wrong with a text.
pub type Wrong = String;

impl<'t> Reader<'t> {
    /// Reads from the byte `at` on.
    pub fn new(text: &'t str, at: usize) -> Self {
        let mut lexer = Lexer::new(text, at);
        let next = lexer.next();
        Self { lexer, next }
    }

    /// Where the next token begins.
    pub fn at(&self) -> usize {
        self.next.map_or(self.lexer.at(), |token| token.at)
    }

    /// The next token, which stays.
    pub fn peek(&self) -> Option<Kind<'t>> {
        self.next.map(|token| token.kind)
    }

    /// The next token.
    pub fn take(&mut self) -> Option<Kind<'t>> {
        let taken = self.next.take();
        self.next = self.lexer.next();
        taken.map(|token| token.kind)
    }

    /// Whether the next token is a sign, which is then taken.
    pub fn sign(&mut self, sign: u8) -> bool {
        let found = self.peek() == Some(Kind::Sign(sign));
        if found {
            self.take();
        }
        found
    }

    /// A sign that must come now.
    pub fn expect(&mut self, sign: u8) -> Result<(), Wrong> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(format!("'{}' is missing before {:?} at byte {}", char::from(sign), self.peek(), self.at()))
    }

    /// A word that must come now.
    pub fn word(&mut self) -> Result<&'t str, Wrong> {
        match self.take() {
            Some(Kind::Word(word)) => Ok(word),
            other => Err(format!("a name is missing before {other:?} at byte {}", self.at())),
        }
    }

    /// Goes on in the next line; the next token must be the first after the directive's name.
    pub fn skip_line(&mut self) {
        let mut lexer = self.lexer.clone();
        if let Some(token) = self.next {
            // The token that was read ahead may stand in the next line already.
            lexer = Lexer::new(lexer.text(), token.at);
        }
        lexer.skip_line();
        self.next = lexer.next();
        self.lexer = lexer;
    }

    /// Goes on behind the brace that closes the one just taken, and returns where what is between them begins.
    pub fn skip_body(&mut self, text: &'t str) -> usize {
        let begin = self.at();
        let mut lexer = Lexer::new(text, begin);
        lexer.skip_body();
        self.next = lexer.next();
        self.lexer = lexer;
        begin
    }

    /// A number with or without a sign.
    pub fn number(&mut self) -> Result<Operand<'t>, Wrong> {
        let negative = self.sign(b'-');
        let word = self.word()?;
        let number = number(word).ok_or_else(|| format!("'{word}' is no number"))?;
        Ok(match number {
            Operand::Bits(bits) if negative => Operand::Bits(bits.wrapping_neg()),
            Operand::Decimal(value) if negative => Operand::Decimal(-value),
            other => other,
        })
    }

    fn operand(&mut self) -> Result<Operand<'t>, Wrong> {
        let first = match self.peek() {
            Some(Kind::Sign(b'[')) => {
                self.take();
                return self.address();
            }
            Some(Kind::Sign(open @ (b'{' | b'('))) => {
                self.take();
                let close = if open == b'{' { b'}' } else { b')' };
                let mut list = Vec::new();
                while !self.sign(close) {
                    list.push(self.operand()?);
                    self.sign(b',');
                }
                return Ok(Operand::List(list));
            }
            Some(Kind::Sign(b'!')) => {
                self.take();
                Operand::Not(self.word()?)
            }
            Some(Kind::Sign(b'-')) => self.number()?,
            Some(Kind::Word(word)) if word.starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            _ => Operand::Name(self.word()?),
        };
        if self.sign(b'|') {
            return Ok(Operand::Pair(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }

    fn address(&mut self) -> Result<Operand<'t>, Wrong> {
        let mut base = None;
        let mut offset = 0_i64;
        loop {
            match self.peek() {
                Some(Kind::Sign(b']')) => {
                    self.take();
                    return Ok(Operand::Address(base, offset));
                }
                Some(Kind::Sign(b'+')) => {
                    self.take();
                }
                // Coordinates, which instructions on textures have, and none that is known here.
                Some(Kind::Sign(b',')) => {
                    self.take();
                    self.operand()?;
                }
                Some(Kind::Word(word)) if !word.starts_with(|c: char| c.is_ascii_digit()) => {
                    self.take();
                    base = Some(word);
                }
                _ => match self.number()? {
                    Operand::Bits(bits) => offset = offset.wrapping_add(bits as i64),
                    other => return Err(format!("{other:?} is no offset")),
                },
            }
        }
    }

    /// A declaration, whose first word is read, up to what ends it (which is left).
    pub fn declaration(&mut self, space: &'t str) -> Result<Variable<'t>, Wrong> {
        // The type may be written without a space before it.
        let (space, ty) = space.split_once('.').map_or((space, None), |(space, ty)| (space, Ty::parse(ty)));
        let mut variable = Variable { space, ty, align: 1, ..Variable::default() };
        while let Some(Kind::Word(word)) = self.peek() {
            let Some(part) = word.strip_prefix('.') else { break };
            self.take();
            match part {
                "align" => variable.align = self.size()?,
                "ptr" | "global" | "shared" | "const" | "local" | "v2" | "v4" => {}
                _ => variable.ty = Ty::parse(part),
            }
        }
        let ty = variable.ty.ok_or_else(|| format!("a variable without a type at byte {}", self.at()))?;
        variable.align = variable.align.max(ty.bytes());
        variable.bytes = Some(ty.bytes());
        loop {
            let name = self.word()?;
            let many = if self.sign(b'<') {
                let many = self.size()?;
                self.expect(b'>')?;
                Some(many)
            } else {
                None
            };
            variable.names.push((name, many));
            while self.sign(b'[') {
                let elements = if self.peek() == Some(Kind::Sign(b']')) { None } else { Some(self.size()?) };
                variable.bytes = variable.bytes.zip(elements).map(|(bytes, count)| bytes * count);
                self.expect(b']')?;
            }
            if space != "reg" || !self.sign(b',') {
                break;
            }
        }
        if self.sign(b'=') {
            let many = self.sign(b'{');
            loop {
                match self.number()? {
                    Operand::Bits(bits) => variable.initial.push(bits),
                    Operand::Decimal(value) => variable.initial.push(ty.literal(value)),
                    other => return Err(format!("{other:?} in an initial value")),
                }
                if !many || !self.sign(b',') {
                    break;
                }
            }
            if many {
                self.expect(b'}')?;
            }
        }
        Ok(variable)
    }

    fn size(&mut self) -> Result<usize, Wrong> {
        match self.number()? {
            Operand::Bits(bits) => Ok(bits as usize),
            other => Err(format!("{other:?} is no size")),
        }
    }

    /// The next part of a body, or nothing at the brace that closes it.
    pub fn item(&mut self, depth: &mut usize) -> Result<Option<Item<'t>>, Wrong> {
        loop {
            let begin = self.at();
            match self.peek().ok_or("the text ends within a body")? {
                Kind::Sign(b'{') => {
                    self.take();
                    *depth += 1;
                    return Ok(Some(Item::Open));
                }
                Kind::Sign(b'}') if *depth == 0 => return Ok(None),
                Kind::Sign(b'}') => {
                    self.take();
                    *depth -= 1;
                    return Ok(Some(Item::Close));
                }
                Kind::Sign(b';') => {
                    self.take();
                }
                Kind::Sign(b'@') => {
                    self.take();
                    let not = self.sign(b'!');
                    let guard = self.word()?;
                    let name = self.word()?;
                    return Ok(Some(Item::Statement(self.statement(Some((guard, not)), name, begin)?)));
                }
                Kind::Word(".loc" | ".file") => self.skip_line(),
                Kind::Word(".pragma") => {
                    while !self.sign(b';') {
                        self.take();
                    }
                }
                Kind::Word(".branchtargets") => {
                    self.take();
                    let mut labels = vec![self.word()?];
                    while self.sign(b',') {
                        labels.push(self.word()?);
                    }
                    self.expect(b';')?;
                    return Ok(Some(Item::Targets(labels)));
                }
                Kind::Word(word) => {
                    self.take();
                    if let Some(space) = word.strip_prefix('.') {
                        let variable = self.declaration(space)?;
                        self.expect(b';')?;
                        return Ok(Some(Item::Declaration(variable)));
                    }
                    if self.sign(b':') {
                        return Ok(Some(Item::Label(word)));
                    }
                    return Ok(Some(Item::Statement(self.statement(None, word, begin)?)));
                }
                other => return Err(format!("{other:?} begins no statement, at byte {begin}")),
            }
        }
    }

    fn statement(
        &mut self,
        guard: Option<(&'t str, bool)>,
        name: &'t str,
        begin: usize,
    ) -> Result<Statement<'t>, Wrong> {
        let mut operands = Vec::new();
        while self.peek() != Some(Kind::Sign(b';')) {
            operands.push(self.operand()?);
            if !self.sign(b',') {
                break;
            }
        }
        let end = self.at();
        self.expect(b';')?;
        let mut parts = name.split('.');
        let name = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.collect();
        let types = parts.iter().filter_map(|part| Ty::parse(part)).collect();
        Ok(Statement { guard, name, parts, types, operands, span: (begin, end) })
    }
}

/// A number as PTX writes it (PTX ISA, "Constants").
fn number(word: &str) -> Option<Operand<'static>> {
    let lower = word.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f").or_else(|| lower.strip_prefix("0d")) {
        return u64::from_str_radix(bits, 16).ok().map(Operand::Bits);
    }
    let digits = lower.trim_end_matches('u');
    let whole = if let Some(hexadecimal) = digits.strip_prefix("0x") {
        u64::from_str_radix(hexadecimal, 16).ok()
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if digits.len() > 1 && digits.starts_with('0') && !digits.contains('.') {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.parse().ok()
    };
    whole.map(Operand::Bits).or_else(|| lower.parse().ok().map(Operand::Decimal))
}

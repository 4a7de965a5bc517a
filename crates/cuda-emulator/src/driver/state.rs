//! What the driver knows: one card, with its modules, streams and graphs.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread::ThreadId,
};

use super::{Code, code, complain, container, work::Work};
use crate::{
    memory::Memory,
    ptx::{self, launch::Kernel, module::Module},
};

/// The number by which a program knows a thing.
pub type Handle = usize;

/// Streams that are there from the beginning: the one that all other blocking streams wait for, by its two names, and the one
/// of a thread.
pub const LEGACY: [Handle; 2] = [0, 1];
pub const PER_THREAD: Handle = 2;

/// A module, whose text is looked at when it's first needed.
pub struct Loaded {
    source: Source,
    /// The addresses of its variables.
    pub globals: HashMap<String, u64>,
}

enum Source {
    Text(String),
    /// The address of a container in the program.
    Container(usize),
    Parsed(Arc<Module>),
    Wrong(Code),
}

/// A kernel of a module.
pub struct Function {
    /// The module it is of.
    pub module: Handle,
    /// What it is called.
    pub name: String,
    /// It as steps, once it was needed.
    pub kernel: Option<Arc<Kernel>>,
    /// How much shared memory launches may ask for.
    pub most_dynamic: usize,
}

/// A stream.
#[derive(Default)]
pub struct Stream {
    /// Whether it doesn't wait for the legacy stream.
    pub non_blocking: bool,
    /// What is captured of it.
    pub capture: Option<Capture>,
}

/// What a stream captures.
pub struct Capture {
    /// Its own number.
    pub number: Handle,
    /// The work so far.
    pub work: Vec<Work>,
    /// Which calls of other threads it forbids, as `cuStreamBeginCapture` says.
    pub mode: u32,
    /// The thread that began it.
    pub thread: ThreadId,
    /// Whether something that it doesn't allow happened.
    pub invalid: bool,
}

/// A point of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// When the stream last came to it.
    pub at: Option<std::time::Instant>,
    /// The stream that was capturing then, and the capture's number.
    pub captured: Option<(Handle, Handle)>,
}

/// All of it.
#[derive(Default)]
pub struct State {
    pub memory: Memory,
    pub modules: HashMap<Handle, Loaded>,
    pub functions: HashMap<Handle, Function>,
    pub streams: HashMap<Handle, Stream>,
    /// Handles of cuBLAS, with the stream of each.
    pub blas: HashMap<Handle, Handle>,
    pub events: HashMap<Handle, Event>,
    pub graphs: HashMap<Handle, Vec<Work>>,
    pub ready_graphs: HashMap<Handle, Arc<Vec<Work>>>,
    /// Functions of the program that stand for kernels, by address.
    pub registered: HashMap<usize, Handle>,
    /// Memory of the program that `cuMemHostAlloc` gave, with its size.
    pub host: HashMap<usize, usize>,
    /// What went wrong in a kernel: from then on every call fails, as on a card.
    pub broken: Option<Code>,
    /// Whether it's an error that warps use memory of their block with no barrier between them.
    pub races: bool,
    log: Option<File>,
    last: Handle,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let log = std::env::var_os("NEMOTERM_EMULATOR_LOG").and_then(|path| {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.map_err(|error| complain(&format!("{}: {error}", path.display()))).ok()
    });
    let races = std::env::var_os("NEMOTERM_EMULATOR_RACES").is_some();
    let mut state = State { log, races, last: 0x1000, ..State::default() };
    for stream in LEGACY.into_iter().chain([PER_THREAD]) {
        state.streams.insert(stream, Stream::default());
    }
    Mutex::new(state)
});

/// All of it, for one thread at a time.
pub fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A number that nothing has.
    pub fn handle(&mut self) -> Handle {
        self.last += 16;
        self.last
    }

    /// The card still works.
    pub fn works(&self) -> Result<(), Code> {
        self.broken.map_or(Ok(()), Err)
    }

    /// A line for who wants to know what was launched.
    pub fn note(&mut self, line: &str) {
        if let Some(log) = &mut self.log
            && let Err(error) = writeln!(log, "{line}")
        {
            complain(&format!("the log can't be written: {error}"));
            self.log = None;
        }
    }

    /// A module of what is at an address: text, or a container.
    pub fn load(&mut self, place: *const u8) -> Result<Handle, Code> {
        let source = match container::find(place)? {
            Some(container) => Source::Container(container as usize),
            None => Source::Text(super::text(place.cast())?),
        };
        Ok(self.loaded(source))
    }

    /// A module of a text.
    pub fn load_text(&mut self, text: String) -> Handle {
        self.loaded(Source::Text(text))
    }

    fn loaded(&mut self, source: Source) -> Handle {
        let handle = self.handle();
        self.modules.insert(handle, Loaded { source, globals: HashMap::new() });
        handle
    }

    /// A module with its text read and its variables in memory.
    pub fn module(&mut self, handle: Handle) -> Result<Arc<Module>, Code> {
        let loaded = self.modules.get_mut(&handle).ok_or(code::INVALID_HANDLE)?;
        let text = match &loaded.source {
            Source::Parsed(module) => return Ok(module.clone()),
            Source::Wrong(code) => return Err(*code),
            Source::Text(text) => Ok(text.clone()),
            Source::Container(place) => container::ptx(*place as *const u8),
        };
        let parsed = text.and_then(|text| {
            Module::parse(text).map_err(|wrong| {
                complain(&wrong);
                code::INVALID_PTX
            })
        });
        let module = match parsed {
            Ok(module) => Arc::new(module),
            Err(code) => {
                loaded.source = Source::Wrong(code);
                return Err(code);
            }
        };
        for global in &module.globals {
            let Some(bytes) = global.bytes.filter(|_| global.space != "shared") else { continue };
            let address = self.memory.allocate(bytes.max(1)).ok_or(code::OUT_OF_MEMORY)?;
            self.memory.write(address, &global.initial);
            loaded.globals.insert(global.name.clone(), address);
        }
        loaded.source = Source::Parsed(module.clone());
        Ok(module)
    }

    /// A kernel of a module. Of the text only its head is looked at.
    pub fn function(&mut self, module: Handle, name: &str) -> Handle {
        let known = self.functions.iter().find(|(_, known)| known.module == module && known.name == name);
        if let Some((&handle, _)) = known {
            return handle;
        }
        let handle = self.handle();
        let name = name.to_owned();
        self.functions.insert(handle, Function { module, name, kernel: None, most_dynamic: 48 << 10 });
        handle
    }

    /// A kernel as steps.
    pub fn kernel(&mut self, handle: Handle) -> Result<Arc<Kernel>, Code> {
        let function = self.functions.get(&handle).ok_or(code::INVALID_HANDLE)?;
        if let Some(kernel) = &function.kernel {
            return Ok(kernel.clone());
        }
        let (home, name) = (function.module, function.name.clone());
        let module = self.module(home)?;
        let globals = self.modules.get(&home).map(|loaded| &loaded.globals).ok_or(code::INVALID_HANDLE)?;
        let kernel = ptx::compile(&module, &name, globals).map_err(|wrong| {
            complain(&format!("kernel {name}: {wrong}"));
            code::INVALID_PTX
        })?;
        let kernel = Arc::new(kernel);
        if let Some(function) = self.functions.get_mut(&handle) {
            function.kernel = Some(kernel.clone());
        }
        Ok(kernel)
    }
}

//! Runs kernels that tests write by hand.

use std::collections::HashMap;

use nemoterm_cuda_emulator::{
    memory::Memory,
    ptx::{self, fault::Fault, launch::Launch, module::Module},
};

/// A card's memory, and what its kernels are written in.
#[derive(Default)]
pub struct Card {
    pub memory: Memory,
}

impl Card {
    /// Memory that holds numbers.
    pub fn numbers<const BYTES: usize, T>(&mut self, numbers: &[T], bytes: fn(&T) -> [u8; BYTES]) -> u64 {
        let data: Vec<u8> = numbers.iter().flat_map(bytes).collect();
        let address = self.memory.allocate(data.len()).unwrap();
        assert!(self.memory.write(address, &data));
        address
    }

    /// Memory that holds integers.
    pub fn words(&mut self, words: &[u32]) -> u64 {
        self.numbers(words, |word| word.to_le_bytes())
    }

    /// What integers memory holds.
    pub fn read(&self, address: u64, count: usize) -> Vec<u32> {
        let data = self.memory.read(address, count * 4).unwrap();
        data.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    /// Launches the kernel `f` of a text.
    pub fn launch(
        &self,
        text: &str,
        (blocks, threads, dynamic): (u32, u32, usize),
        parameters: &[u64],
    ) -> Result<u64, Box<Fault>> {
        let module = Module::parse(text).unwrap();
        let kernel = ptx::compile(&module, "f", &HashMap::new()).unwrap();
        let parameters: Vec<u8> = parameters.iter().flat_map(|number| number.to_le_bytes()).collect();
        Launch {
            kernel: &kernel,
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            dynamic,
            parameters: &parameters,
            memory: &self.memory,
            races: true,
        }
        .run()
    }
}

/// The text of a kernel with parameters `a`, `b` and `out` in `%rd1` to `%rd3`, and the thread's number in `%r1`.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n
        .extern .shared .align 16 .b8 dynamic[];
        .visible .entry f(.param .u64 a, .param .u64 b, .param .u64 out)\n{{
        .reg .pred %p<20>; .reg .b16 %rs<40>; .reg .b32 %r<80>; .reg .f32 %f<40>; .reg .b64 %rd<40>; .reg .f64 %fd<20>;
        ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [out];
        mov.u32 %r1, %tid.x;
        {body}
        ret;\n}}\n"
    )
}

/// Runs a body for 32 lanes, which have a number in `%r2` and one in `%r3`, and give one in `%r4`.
pub fn lanes(body: &str, a: [u32; 32], b: [u32; 32]) -> [u32; 32] {
    let mut card = Card::default();
    let (a, b, out) = (card.words(&a), card.words(&b), card.words(&[0; 32]));
    let text = kernel(&format!(
        "mul.wide.u32 %rd4, %r1, 4; add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4;
        ld.global.u32 %r2, [%rd5]; ld.global.u32 %r3, [%rd6];
        {body}
        st.global.u32 [%rd7], %r4;"
    ));
    card.launch(&text, (1, 32, 0), &[a, b, out]).unwrap();
    card.read(out, 32).try_into().unwrap()
}

/// Runs a body for one pair of numbers.
pub fn one(body: &str, a: u32, b: u32) -> u32 {
    lanes(body, [a; 32], [b; 32])[0]
}

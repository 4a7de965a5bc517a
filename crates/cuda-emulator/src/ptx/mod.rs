//! An interpreter of PTX, NVIDIA's assembly language for no card in particular. The source for what instructions do is the
//! manual "Parallel Thread Execution ISA".

mod compile;
pub mod fault;
pub mod launch;
mod lexer;
pub mod machine;
pub mod module;
pub mod races;
mod statement;
mod types;

pub use compile::compile;

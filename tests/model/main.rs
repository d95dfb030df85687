//! What threads share without waiting for each other, tried in every order that their steps can come in.
//!
//! The files of the library are compiled here once more, with the atomics and locks of loom in the place of std's: they take
//! theirs from the module above them, so what is tried is the code itself, and the library knows nothing of it.

mod cells;
mod exemplars;

/// Tries every order with at most so many switches between threads where none was needed. loom's authors found that two or
/// three show nearly all mistakes, and more take minutes.
fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

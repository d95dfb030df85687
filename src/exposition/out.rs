//! The bytes of a page on their way out, a chunk at a time.

use std::fmt;

/// How many bytes are collected before they are handed on: few enough to stay in a core's cache, and enough that handing
/// them on costs next to nothing.
pub(crate) const CHUNK: usize = 64 * 1024;

/// A buffer that is handed on whenever it is full.
pub(crate) struct Out<'a> {
    /// What encoders write to.
    pub(crate) buffer: Vec<u8>,
    hand_on: &'a mut dyn FnMut(&mut Vec<u8>) -> bool,
    is_stopped: bool,
}

impl<'a> Out<'a> {
    /// Hands chunks to `hand_on`, which takes the bytes, leaves the buffer empty, and says whether it wants more.
    pub(crate) fn new(hand_on: &'a mut dyn FnMut(&mut Vec<u8>) -> bool) -> Self {
        Self { buffer: Vec::new(), hand_on, is_stopped: false }
    }

    /// Hands the buffer on if it is full. Call it after each line or message.
    #[inline]
    pub(crate) fn hand_on_if_full(&mut self) {
        if self.buffer.len() >= CHUNK {
            self.hand_on();
        }
    }

    /// Hands on what there is.
    pub(crate) fn hand_on(&mut self) {
        if !self.is_stopped && !self.buffer.is_empty() {
            self.is_stopped = !(self.hand_on)(&mut self.buffer);
        }
        self.buffer.clear();
    }

    /// Stops, because what was handed on does not fit what would follow: the page must not end as if it were whole.
    pub(crate) fn fail(&mut self) {
        self.is_stopped = true;
        self.buffer.clear();
    }

    /// Whether the page ends before its end: nobody takes the bytes any more, or they would be wrong.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

impl fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

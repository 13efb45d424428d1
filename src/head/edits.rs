//! Set, add, remove: a list of changes applied while a head is encoded, never by copying it.
use super::{Head, Span, names::Name};

/// Changes to one head: another target, which of its fields are left out, and which follow it.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    target: Vec<u8>,
    dropped: Vec<u64>,
    lines: Vec<u8>,
    added: Vec<(Span, Span)>,
}

impl Edits {
    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.target.clear();
        self.dropped.clear();
        self.lines.clear();
        self.added.clear();
    }

    /// Bytes of memory that they have, used or not.
    pub fn capacity(&self) -> usize {
        let numbers = self.dropped.capacity() * size_of::<u64>() + self.added.capacity() * size_of::<(Span, Span)>();
        self.target.capacity() + self.lines.capacity() + numbers
    }

    /// Makes a request ask for another target, in origin-form. The caller has made sure that it is legal.
    pub fn set_target(&mut self, target: &[u8]) {
        self.target.clear();
        self.target.extend_from_slice(target);
    }

    /// What a request asks for: the target set, or the head's own.
    #[inline]
    pub fn target<'a>(&'a self, head: &'a Head) -> &'a [u8] {
        if self.target.is_empty() { head.target() } else { &self.target }
    }

    /// Leaves out the head's field number `index`.
    #[inline]
    pub fn drop_field(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.dropped.len() {
            self.dropped.resize(word + 1, 0);
        }
        self.dropped[word] |= 1 << (index % 64);
    }

    /// Whether the head's field number `index` is left out.
    #[inline]
    pub fn is_dropped(&self, index: usize) -> bool {
        self.dropped.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Leaves out all fields with a known name.
    pub fn remove(&mut self, head: &Head, name: Name) {
        for (index, field) in head.fields().iter().enumerate() {
            if field.known == name {
                self.drop_field(index);
            }
        }
    }

    /// Leaves out all fields called `name`, letter case aside.
    pub fn remove_named(&mut self, head: &Head, name: &[u8]) {
        for (index, field) in head.fields().iter().enumerate() {
            if head.name_of(field).eq_ignore_ascii_case(name) {
                self.drop_field(index);
            }
        }
    }

    /// Adds a field after those of the head. The caller has made sure that name and value are legal.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.add_parts(name, &[value]);
    }

    /// Adds a field whose value is the concatenation of `parts`.
    pub fn add_parts(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.add_with(name, |lines| parts.iter().for_each(|part| lines.extend_from_slice(part)));
    }

    /// Adds a field whose value `write` appends. The caller has made sure that name and value are legal.
    pub fn add_with(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.lines.len();
        self.lines.extend_from_slice(name);
        let name_span = Span::new(start, self.lines.len());
        self.lines.extend_from_slice(b": ");
        let start = self.lines.len();
        write(&mut self.lines);
        self.added.push((name_span, Span::new(start, self.lines.len())));
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Takes back all added fields called `name`, letter case aside.
    pub fn remove_added(&mut self, name: &[u8]) {
        if !self.added().any(|(added, _)| added.eq_ignore_ascii_case(name)) {
            return;
        }
        let (lines, added) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.added));
        for (kept, value) in added {
            if !kept.of(&lines).eq_ignore_ascii_case(name) {
                self.add(kept.of(&lines), value.of(&lines));
            }
        }
    }

    /// The added fields as HTTP/1.1 lines, each ended by CRLF.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The added fields as ranges of [`Edits::lines`]: names and values, in order.
    pub fn added_spans(&self) -> &[(Span, Span)] {
        &self.added
    }

    /// All fields of `head` as they go on: those that are kept, then the added ones.
    pub fn resulting<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let kept = head.fields().iter().enumerate().filter(|(index, _)| !self.is_dropped(*index));
        kept.map(|(_, field)| (head.name_of(field), head.value_of(field))).chain(self.added())
    }

    /// The added fields as names and values, in order.
    pub fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.added.iter().map(|(name, value)| (name.of(&self.lines), value.of(&self.lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_drop_and_add() {
        let mut head = Head::default();
        for _ in 0..70 {
            head.push(b"X-A", b"1");
        }
        head.push(b"Via", b"1.1 a");
        let mut edits = Edits::default();
        edits.remove(&head, Name::Via);
        edits.drop_field(3);
        assert!(edits.is_dropped(70) && edits.is_dropped(3) && !edits.is_dropped(4) && !edits.is_dropped(700));
        edits.add_parts(b"Via", &[b"1.1 a, ", b"1.1 ringway"]);
        assert_eq!(edits.lines(), b"Via: 1.1 a, 1.1 ringway\r\n");
        assert_eq!(edits.added().next(), Some((&b"Via"[..], &b"1.1 a, 1.1 ringway"[..])));
        edits.add(b"X-B", b"2");
        edits.remove_added(b"VIA");
        assert_eq!(edits.lines(), b"X-B: 2\r\n");
        edits.remove_named(&head, b"x-a");
        assert!((0..71).all(|index| edits.is_dropped(index)));
        head.set_request(crate::head::Method::Get, b"GET", b"/a");
        assert_eq!(edits.target(&head), b"/a");
        edits.set_target(b"/b");
        assert_eq!(edits.target(&head), b"/b");
        edits.clear();
        assert_eq!(edits.target(&head), b"/a");
    }
}

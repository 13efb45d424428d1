//! Fields that a route sets, adds and removes. Which names may be touched was checked when the route was read.
use crate::head::Head;
use crate::head::edits::Edits;
use crate::route::template::Facts;
use crate::route::template::Template;

/// Changes to the fields of a message: first what is removed, then what is set, then what is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Takes the place of all fields of that name.
    pub set: Vec<(String, Template)>,
    /// Comes after what is there.
    pub add: Vec<(String, Template)>,
    /// Goes.
    pub remove: Vec<String>,
}

impl FieldEdits {
    /// Whether nothing is changed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Notes the changes to `head`, a request's or a response's, in `edits`.
    pub fn apply(&self, head: &Head, edits: &mut Edits, facts: Facts<'_>) {
        let replaced = self.set.iter().map(|(name, _)| name);
        for name in self.remove.iter().chain(replaced) {
            edits.remove_named(head, name.as_bytes());
            edits.remove_added(name.as_bytes());
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            edits.add_with(name.as_bytes(), |out| value.write_field(facts, out));
        }
    }
}

//! Changing an XML document in place: everything that is not named stays as it is, byte for byte.
//! What is changed, and to what, is decided elsewhere.

use std::ops::Range;

use roxmltree::Node;

use super::xml::escape;

/// Changes to one document, gathered and then carried out together.
pub struct Edits<'x> {
    xml: &'x str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'x> Edits<'x> {
    #[must_use]
    pub fn new(xml: &'x str) -> Self {
        Self {
            xml,
            edits: Vec::new(),
        }
    }

    /// The document with the changes in it. What stands inside of something that is replaced is
    /// replaced with it.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.edits
            .sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut done = String::with_capacity(self.xml.len());
        let mut at = 0;
        for (range, text) in &self.edits {
            if let Some(kept) = self.xml.get(at..range.start) {
                done.push_str(kept);
                done.push_str(text);
                at = range.end;
            }
        }
        done.push_str(self.xml.get(at..).unwrap_or_default());
        done
    }

    /// Another element in its place.
    pub fn replace(&mut self, node: Node<'_, '_>, xml: impl Into<String>) {
        self.edits.push((node.range(), xml.into()));
    }

    /// Takes the element out, with the white space before it.
    pub fn remove(&mut self, node: Node<'_, '_>) {
        let Range { start, end } = node.range();
        let before = self.xml.get(..start).unwrap_or_default();
        self.edits
            .push((before.trim_end().len()..end, String::new()));
    }

    /// Puts an element behind another one, on a line of its own.
    pub fn insert_after(&mut self, node: Node<'_, '_>, xml: &str) {
        let Range { start, end } = node.range();
        let before = self.xml.get(..start).unwrap_or_default();
        let space = &before[before.trim_end().len()..];
        self.edits.push((end..end, format!("{space}{xml}")));
    }

    /// Puts an element behind all others of its parent.
    pub fn append(&mut self, parent: Node<'_, '_>, xml: &str) {
        match self.content(parent) {
            Some(content) => {
                let inside = self.xml.get(content.clone()).unwrap_or_default();
                let at = content.start + inside.trim_end().len();
                let first = parent.first_element_child();
                let space = first.map_or("", |first| {
                    let before = self.xml.get(..first.range().start).unwrap_or_default();
                    &before[before.trim_end().len()..]
                });
                self.edits.push((at..at, format!("{space}{xml}")));
            }
            None => self.fill(parent, xml),
        }
    }

    /// Puts another text into the element.
    pub fn set_text(&mut self, node: Node<'_, '_>, text: &str) {
        match self.content(node) {
            Some(content) => self.edits.push((content, escape(text))),
            None => self.fill(node, &escape(text)),
        }
    }

    /// Sets an attribute without a namespace.
    pub fn set_attribute(&mut self, node: Node<'_, '_>, name: &str, value: &str) {
        let value = escape(value);
        if let Some(attribute) = node.attribute_node(name) {
            self.edits.push((attribute.range_value(), value));
            return;
        }
        let at = self.start_tag(node).start + 1;
        let tag = self.xml.get(at..).unwrap_or_default();
        let ends = |c: char| c.is_ascii_whitespace() || c == '/' || c == '>';
        let at = at + tag.find(ends).unwrap_or(tag.len());
        self.edits.push((at..at, format!(" {name}='{value}'")));
    }

    pub fn remove_attribute(&mut self, node: Node<'_, '_>, name: &str) {
        if let Some(attribute) = node.attribute_node(name) {
            let Range { start, end } = attribute.range();
            let before = self.xml.get(..start).unwrap_or_default();
            self.edits
                .push((before.trim_end().len()..end, String::new()));
        }
    }

    /// Gives an element without an end tag one, and content.
    fn fill(&mut self, node: Node<'_, '_>, content: &str) {
        let tag = self.start_tag(node);
        let open = self.xml.get(tag.clone()).unwrap_or_default();
        let open = open.trim_end_matches("/>").trim_end();
        let name = open.get(1..).unwrap_or_default();
        let name = name.split_ascii_whitespace().next().unwrap_or_default();
        self.edits.push((tag, format!("{open}>{content}</{name}>")));
    }

    /// From behind the start tag to before the end tag; `None`: the element has one tag only.
    fn content(&self, node: Node<'_, '_>) -> Option<Range<usize>> {
        let (tag, whole) = (self.start_tag(node), node.range());
        let end = whole.start + self.xml.get(whole.clone())?.rfind("</")?;
        (tag.end < whole.end && tag.end <= end).then_some(tag.end..end)
    }

    /// A `>` in an attribute's value does not end the tag.
    fn start_tag(&self, node: Node<'_, '_>) -> Range<usize> {
        let Range { start, end } = node.range();
        let mut quote = None;
        for (at, byte) in self.xml.as_bytes()[start..end].iter().enumerate() {
            match (quote, byte) {
                (Some(open), byte) if *byte == open => quote = None,
                (None, b'"' | b'\'') => quote = Some(*byte),
                (None, b'>') => return start..start + at + 1,
                _ => {}
            }
        }
        start..end
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use roxmltree::Document;

    use super::*;

    fn edited(xml: &str, name: &str, edit: impl Fn(&mut Edits<'_>, Node<'_, '_>)) -> String {
        let document = Document::parse(xml).unwrap();
        let mut edits = Edits::new(xml);
        let named = document.descendants().filter(|n| n.has_tag_name(name));
        named.for_each(|node| edit(&mut edits, node));
        edits.finish()
    }

    type Edit = fn(&mut Edits<'_>, Node<'_, '_>);

    #[test]
    fn only_what_is_named_is_changed() {
        let cases: &[(&str, Edit, &str)] = &[
            ("<a/>", |_, _| {}, "<a/>"),
            (
                "<r><a>1</a></r>",
                |e, n| e.set_text(n, "2"),
                "<r><a>2</a></r>",
            ),
            (
                "<r><a x='>/>' /></r>",
                |e, n| e.set_text(n, "<"),
                "<r><a x='>/>'>&lt;</a></r>",
            ),
            (
                "<r><a></a></r>",
                |e, n| e.set_text(n, "2"),
                "<r><a>2</a></r>",
            ),
            (
                "<a  x = \"1\"/>",
                |e, n| e.set_attribute(n, "x", "'"),
                "<a  x = \"&apos;\"/>",
            ),
            ("<a/>", |e, n| e.set_attribute(n, "x", "1"), "<a x='1'/>"),
            (
                "<a>t</a>",
                |e, n| e.set_attribute(n, "x", "1"),
                "<a x='1'>t</a>",
            ),
            (
                "<a y='2' x='1'>t</a>",
                |e, n| e.remove_attribute(n, "x"),
                "<a y='2'>t</a>",
            ),
            (
                "<a y='2'>t</a>",
                |e, n| e.remove_attribute(n, "x"),
                "<a y='2'>t</a>",
            ),
            (
                "<r>\n  <b/>\n  <a>\n  <c/></a>\n</r>",
                |e, n| e.remove(n),
                "<r>\n  <b/>\n</r>",
            ),
            (
                "<r>\n <b/><!-- a --> <a/>\n</r>",
                |e, n| e.remove(n),
                "<r>\n <b/><!-- a -->\n</r>",
            ),
            (
                "<r>\n  <a/>\n</r>",
                |e, n| e.insert_after(n, "<b/>"),
                "<r>\n  <a/>\n  <b/>\n</r>",
            ),
            (
                "<r>\n  <a/>\n</r>",
                |e, n| e.replace(n, "<b/>"),
                "<r>\n  <b/>\n</r>",
            ),
            (
                "<a>\n  <c/>\n</a>",
                |e, n| e.append(n, "<b/>"),
                "<a>\n  <c/>\n  <b/>\n</a>",
            ),
            ("<a/>", |e, n| e.append(n, "<b/>"), "<a><b/></a>"),
            ("<a></a>", |e, n| e.append(n, "<b/>"), "<a><b/></a>"),
            (
                "<r><a><b/></a></r>",
                |e, n| {
                    e.set_attribute(n.first_element_child().unwrap(), "x", "1");
                    e.remove(n);
                },
                "<r></r>",
            ),
        ];
        for (before, edit, after) in cases {
            assert_eq!(edited(before, "a", edit), *after, "{before}");
        }
    }

    proptest! {
        /// Whatever stands around it: the rest is as it was, and the new value is read back.
        #[test]
        fn around_an_edit_every_byte_stays(
            before in "(<!-- [a-z>'\"]{0,6} -->|<b x='[a-z>/]{0,4}'/>|[ \t\n]|<c>[a-z]{0,4}</c>){0,6}",
            after in "(<!-- [a-z>'\"]{0,6} -->|<b y=\"[a-z>/']{0,4}\"/>|[ \t\n]|<c><d/></c>){0,6}",
            value in "[ -~]{1,8}",
        ) {
            let xml = format!("<r>{before}<a v='1'>t</a>{after}</r>");
            let done = edited(&xml, "a", |edits, node| {
                edits.set_attribute(node, "v", &value);
                edits.set_text(node, &value);
            });
            let rest = done.strip_prefix(&format!("<r>{before}<a v='")).unwrap();
            let end = format!("</a>{after}</r>");
            prop_assert!(rest.ends_with(&end));
            let document = Document::parse(&done).unwrap();
            let node = document.descendants().find(|n| n.has_tag_name("a")).unwrap();
            prop_assert_eq!(node.attribute("v"), Some(value.as_str()));
            prop_assert_eq!(node.text(), Some(value.as_str()));
        }
    }
}

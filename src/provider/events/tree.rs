//! The fields of a table, by the names that lead to them.

use super::Field;

/// The place of a value in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Node(u16);

#[derive(Clone, Debug)]
pub(in crate::provider) struct Tree {
    nodes: Vec<Branch>,
}

#[derive(Clone, Debug, Default)]
struct Branch {
    tells: Option<Field>,
    children: Vec<(Box<[u8]>, Node)>,
}

impl Node {
    /// The top of a message.
    pub(in crate::provider) const ROOT: Self = Self(0);
    /// Nothing is known of the value, nor of anything in it.
    pub(in crate::provider) const NONE: Self = Self(u16::MAX);
}

impl Tree {
    pub(super) fn insert(&mut self, path: &str, tells: Field) {
        let mut node = Node::ROOT;
        for name in path.split('.') {
            let known = self.child(node, name.as_bytes());
            node = if known == Node::NONE {
                let Ok(place) = u16::try_from(self.nodes.len()) else {
                    return;
                };
                if place == Node::NONE.0 {
                    return;
                }
                let child = Node(place);
                self.nodes.push(Branch::default());
                let children = &mut self.nodes[usize::from(node.0)].children;
                children.push((name.as_bytes().into(), child));
                child
            } else {
                known
            };
        }
        self.nodes[usize::from(node.0)].tells = Some(tells);
    }

    #[inline]
    pub(in crate::provider) fn child(&self, node: Node, name: &[u8]) -> Node {
        let Some(branch) = self.nodes.get(usize::from(node.0)) else {
            return Node::NONE;
        };
        let mut children = branch.children.iter();
        let found = children.find(|(known, _)| **known == *name);
        found.map_or(Node::NONE, |&(_, child)| child)
    }

    #[inline]
    pub(in crate::provider) fn tells(&self, node: Node) -> Option<Field> {
        self.nodes.get(usize::from(node.0))?.tells
    }

    #[inline]
    pub(in crate::provider) fn has_children(&self, node: Node) -> bool {
        let branch = self.nodes.get(usize::from(node.0));
        branch.is_some_and(|branch| !branch.children.is_empty())
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Branch::default()],
        }
    }
}

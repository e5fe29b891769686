use std::{collections::HashMap, sync::Arc};

use crate::policy::Cost;

use super::config::{PoolConfig, ScopeConfig};

/// How many names of models are told apart.
const MOST_NAMES: usize = 256;
/// A longer name is nobody's, and is not kept.
const LONGEST_NAME: usize = 256;

/// A model's name, resolved once by [`Pool::resolve`](super::Pool::resolve).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(pub(super) u32);

/// The names seen so far, each with the route that its calls take.
///
/// A *route* is a most specific pattern of the whole pool: all names that match no other more
/// closely are in the same class of every scope, so one order of scopes serves them all. There are
/// as many routes as different patterns, and one for the rest, whatever names callers invent.
#[derive(Clone, Debug)]
pub(super) struct Models {
    ids: HashMap<Arc<str>, ModelId>,
    models: Vec<Model>,
    /// The most specific first; the last matches everything.
    routes: Vec<Pattern>,
    /// How many lines of waiters have had a number, and which of these are free.
    lines: usize,
    free_lines: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    /// What it matches: a name, or the pattern of all names that are not told apart.
    matches: Pattern,
    pub(super) route: usize,
    /// The view of its calls: its route's, or its own once a key may not use it.
    pub(super) view: usize,
    /// Of those who would take any lane.
    pub(super) line: usize,
    pub(super) waiting: Waiting,
}

/// Those that wait for one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    pub(super) calls: usize,
    pub(super) cost: Cost,
    /// The largest part of each unit that any of them wants or wanted.
    pub(super) largest: Cost,
}

impl Waiting {
    pub(super) fn add(&mut self, cost: &Cost) {
        self.calls += 1;
        self.cost.add(cost);
        self.largest = self.largest.max(cost);
    }

    pub(super) fn sub(&mut self, cost: &Cost) {
        self.calls -= 1;
        self.cost.sub(cost);
        if self.calls == 0 {
            (self.cost, self.largest) = (Cost::ZERO, Cost::ZERO);
        }
    }

    /// Whether all of them want this much.
    pub(super) fn is_all(&self, cost: &Cost) -> bool {
        self.largest == *cost && self.cost == cost.times(self.calls as u64)
    }
}

/// A name, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    text: Arc<str>,
    is_open: bool,
}

impl Pattern {
    pub(super) fn new(pattern: &Arc<str>) -> Self {
        match pattern.strip_suffix('*') {
            Some(text) => Self {
                text: text.into(),
                is_open: true,
            },
            None => Self {
                text: Arc::clone(pattern),
                is_open: false,
            },
        }
    }

    fn everything() -> Self {
        Self {
            text: "".into(),
            is_open: true,
        }
    }

    /// Whether all that `other` matches is matched too.
    fn covers(&self, other: &Self) -> bool {
        self == other || (self.is_open && other.text.starts_with(&*self.text))
    }

    /// The more specific, the larger.
    fn specificity(&self) -> (bool, usize) {
        (!self.is_open, self.text.len())
    }
}

impl Models {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let mut models = Self {
            ids: HashMap::new(),
            models: Vec::new(),
            routes: Vec::new(),
            lines: 0,
            free_lines: Vec::new(),
        };
        models.set_routes(config);
        models.add(Pattern::everything());
        models
    }

    /// Takes the routes of another configuration; names keep their numbers.
    pub(super) fn set_routes(&mut self, config: &PoolConfig) {
        let classes = config.scopes.iter().flat_map(|scope| &scope.classes);
        let mut routes: Vec<_> = classes
            .flat_map(|class| class.patterns.iter().map(Pattern::new))
            .chain([Pattern::everything()])
            .collect();
        routes.sort_by(|a, b| {
            let by_specificity = b.specificity().cmp(&a.specificity());
            by_specificity.then_with(|| a.text.cmp(&b.text))
        });
        routes.dedup();
        self.routes = routes;
        for index in 0..self.models.len() {
            let route = self.route_of(&self.models[index].matches);
            let model = &mut self.models[index];
            (model.route, model.view) = (route, route);
        }
    }

    pub(super) fn routes(&self) -> &[Pattern] {
        &self.routes
    }

    /// How many lines of waiters there are.
    pub(super) const fn lines(&self) -> usize {
        self.lines
    }

    /// A line that nobody waits in.
    pub(super) fn add_line(&mut self) -> usize {
        self.free_lines.pop().unwrap_or_else(|| {
            self.lines += 1;
            self.lines - 1
        })
    }

    pub(super) fn free_line(&mut self, line: usize) {
        self.free_lines.push(line);
    }

    #[inline]
    pub(super) fn get(&self, id: ModelId) -> &Model {
        &self.models[id.0 as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ModelId) -> &mut Model {
        &mut self.models[id.0 as usize]
    }

    /// Whether this is one name, not all those that are not told apart.
    pub(super) fn is_name(&self, id: ModelId) -> bool {
        !self.get(id).matches.is_open
    }

    pub(super) fn name(&self, id: ModelId) -> Arc<str> {
        Arc::clone(&self.get(id).matches.text)
    }

    /// The number of a name; of the default class without one.
    #[inline]
    pub(super) fn resolve(&mut self, name: Option<&str>) -> ModelId {
        match name {
            None => ModelId(0),
            Some(name) => match self.ids.get(name) {
                Some(&id) => id,
                None => self.intern(name),
            },
        }
    }

    fn intern(&mut self, name: &str) -> ModelId {
        let matches = Pattern {
            text: name.into(),
            is_open: false,
        };
        if self.ids.len() < MOST_NAMES && name.len() <= LONGEST_NAME {
            let name = Arc::clone(&matches.text);
            let id = self.add(matches);
            self.ids.insert(name, id);
            return id;
        }
        let shared = self.routes[self.route_of(&matches)].clone();
        let mut models = self.models.iter();
        match models.position(|model| model.matches == shared) {
            Some(index) => ModelId(index as u32),
            None => self.add(shared),
        }
    }

    fn add(&mut self, matches: Pattern) -> ModelId {
        let route = self.route_of(&matches);
        let line = self.add_line();
        self.models.push(Model {
            matches,
            route,
            view: route,
            line,
            waiting: Waiting::default(),
        });
        ModelId(self.models.len() as u32 - 1)
    }

    fn route_of(&self, matches: &Pattern) -> usize {
        let mut routes = self.routes.iter();
        routes
            .position(|route| route.covers(matches))
            .expect("the last route matches everything")
    }
}

/// The class of `scope` that calls of `route` are charged to, if any has a quota for them.
pub(super) fn class_of(scope: &ScopeConfig, route: &Pattern) -> Option<usize> {
    let patterns = scope.classes.iter().enumerate().flat_map(|(index, class)| {
        let patterns = class.patterns.iter().map(Pattern::new);
        let default = class.patterns.is_empty().then(Pattern::everything);
        patterns.chain(default).map(move |pattern| (index, pattern))
    });
    patterns
        .filter(|(_, pattern)| pattern.covers(route))
        // A `*` alone goes before the quota without patterns, which is written as the fallback.
        .max_by_key(|(index, pattern)| {
            let is_named = !scope.classes[*index].patterns.is_empty();
            (pattern.specificity(), is_named)
        })
        .map(|(index, _)| index)
}

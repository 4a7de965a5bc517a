//! What is suggested for the line, and when to ask for more: the part that knows neither readline nor a terminal.

/// A question for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Larger each time; the replies name it.
    pub sequence: u64,
    /// Whether the user has asked.
    pub asked: bool,
    /// The line.
    pub line: String,
    /// Where the cursor is in it, in bytes.
    pub cursor: usize,
}

/// What the client has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The request it answers.
    pub sequence: u64,
    /// Whether the texts take the place of the line (a `# description`), rather than being added to it.
    pub replaces: bool,
    /// Best first, never empty.
    pub texts: Vec<String>,
}

/// What accepting does to the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// This is added at its end.
    Insert(String),
    /// This takes its place.
    Replace(String),
}

/// What fits in the middle of a line, where nothing is drawn: it is put there, and taken away again.
#[derive(Debug)]
struct Fill {
    /// The request it was asked with.
    sequence: u64,
    before: String,
    after: String,
    /// Best first, and nothing as the last, once there is an answer.
    texts: Vec<String>,
    /// Which of them stands in the line.
    index: usize,
}

impl Fill {
    /// The text that stands in the line, if it does.
    fn standing(&self, line: &str, cursor: usize) -> Option<&str> {
        let text = self.texts.get(self.index)?;
        let (before, after) = line.split_at_checked(cursor)?;
        (after == self.after && before.strip_prefix(&self.before) == Some(text)).then_some(text)
    }
}

/// A change before the cursor in the middle of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// So many bytes before the cursor go.
    pub remove: usize,
    /// This comes in their place.
    pub insert: String,
}

/// The suggestions for one line at a time.
#[derive(Debug, Default)]
pub struct Session {
    sequence: u64,
    /// The line the last request was about.
    asked: Option<String>,
    /// The line nothing is to be asked about: it was, or its suggestions were dismissed.
    settled: Option<String>,
    /// The line the suggestions belong to.
    base: String,
    suggestions: Vec<String>,
    /// Which of them is shown.
    index: usize,
    replaces: bool,
    /// Where to go in the suggestions when more arrive.
    step: isize,
    /// Whether the user has stepped to the one that is shown.
    chosen: bool,
    /// Whether more than one was asked for.
    complete: bool,
    /// Whether a command has run and nothing has been typed since.
    fresh: bool,
    /// What was asked for in the middle of the line.
    fill: Option<Fill>,
}

impl Session {
    /// A line begins, after a command has run or not: nothing that was known before is about it.
    pub fn begin(&mut self, ran: bool) {
        self.forget();
        self.asked = None;
        self.settled = None;
        self.fresh = ran;
        self.fill = None;
    }

    /// The line is now this. Suggestions it follows stay, without what was typed of them; others go.
    pub fn update(&mut self, line: &str) {
        if !self.fit(line) {
            self.forget();
        }
        if self.settled.as_deref() != Some(line) {
            self.settled = None;
        }
        self.fresh &= line.is_empty();
    }

    /// Makes the suggestions continue the line, where the line is part of the one that is shown.
    fn fit(&mut self, line: &str) -> bool {
        if line == self.base {
            return true;
        }
        if self.replaces || self.suggestions.is_empty() {
            return false;
        }
        let Some(typed) = line.strip_prefix(&self.base) else { return false };
        let rest =
            |text: &String| text.strip_prefix(typed).filter(|rest| !rest.is_empty()).map(str::to_owned);
        let Some(shown) = self.suggestions.get(self.index).and_then(rest) else { return false };
        self.suggestions = self.suggestions.iter().filter_map(rest).collect();
        self.index = self.suggestions.iter().position(|text| *text == shown).unwrap_or(0);
        line.clone_into(&mut self.base);
        true
    }

    fn forget(&mut self) {
        self.base.clear();
        self.suggestions.clear();
        self.index = 0;
        self.replaces = false;
        self.step = 0;
        self.chosen = false;
    }

    /// The suggestion for this line.
    pub fn suggestion(&self, line: &str) -> Option<&str> {
        (line == self.base).then(|| self.suggestions.get(self.index).map(String::as_str)).flatten()
    }

    /// Whether the suggestion takes the place of the line.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Whether more than one suggestion was asked for already.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there is anything to ask about a line as it is typed, or before, where the user wants the next command.
    pub fn is_open(&self, line: &str, next_command: bool) -> bool {
        let is_something = !line.trim().is_empty() || (line.is_empty() && self.fresh && next_command);
        is_something && self.settled.as_deref() != Some(line) && self.suggestion(line).is_none()
    }

    /// Leaves a line alone until it changes.
    pub fn settle(&mut self, line: &str) {
        self.fresh = false;
        self.settled = Some(line.to_owned());
    }

    /// Asks about a line.
    pub fn ask(&mut self, line: &str, asked: bool) -> Request {
        self.sequence += 1;
        self.asked = Some(line.to_owned());
        self.settled = Some(line.to_owned());
        self.complete = asked;
        self.step = 0;
        self.fresh = false;
        Request { sequence: self.sequence, asked, line: line.to_owned(), cursor: line.len() }
    }

    /// Asks for what leads from the text before the cursor to the text after it.
    pub fn ask_between(&mut self, line: &str, cursor: usize) -> Option<Request> {
        let (before, after) = line.split_at_checked(cursor)?;
        let (before, after) = (before.to_owned(), after.to_owned());
        let request = Request { cursor, ..self.ask(line, true) };
        // What comes is not to be drawn.
        self.asked = None;
        self.forget();
        self.fill = Some(Fill { sequence: self.sequence, before, after, texts: Vec::new(), index: 0 });
        Some(request)
    }

    /// The next thing that fits in the middle of the line, where one stands there.
    pub fn step_between(&mut self, line: &str, cursor: usize) -> Option<Exchange> {
        let fill = self.fill.as_mut()?;
        let remove = fill.standing(line, cursor)?.len();
        fill.index = (fill.index + 1) % fill.texts.len();
        Some(Exchange { remove, insert: fill.texts[fill.index].clone() })
    }

    /// Takes in a reply about the middle of the line: what comes first is put there. One that stands there stays.
    pub fn reply_between(&mut self, reply: &Reply, line: &str, cursor: usize) -> Option<Exchange> {
        let newest = self.sequence;
        let fill =
            self.fill.as_mut().filter(|fill| reply.sequence == fill.sequence && fill.sequence == newest)?;
        if reply.replaces {
            return None;
        }
        let standing = fill.standing(line, cursor).map(str::to_owned);
        let unchanged = line.split_at_checked(cursor) == Some((fill.before.as_str(), fill.after.as_str()));
        if standing.is_none() && !(unchanged && fill.texts.is_empty()) {
            return None;
        }
        let others = reply.texts.iter().filter(|&text| standing.as_ref() != Some(text));
        fill.texts = standing.iter().chain(others).cloned().chain([String::new()]).collect();
        fill.index = 0;
        standing.is_none().then(|| Exchange { remove: 0, insert: fill.texts[0].clone() })
    }

    /// Takes in a reply, where it is one to the newest request and still fits the line.
    pub fn reply(&mut self, reply: Reply, line: &str) {
        let Some(asked) = self.asked.clone().filter(|_| reply.sequence == self.sequence) else { return };
        // What the user has stepped to stays, if it is still there.
        let stays =
            (self.base == asked && self.chosen).then(|| self.suggestions.get(self.index).cloned()).flatten();
        self.base = asked;
        self.suggestions = reply.texts;
        self.replaces = reply.replaces;
        let index = stays.and_then(|stays| self.suggestions.iter().position(|text| *text == stays));
        self.chosen = index.is_some();
        self.index = index.unwrap_or(0);
        if self.step != 0 {
            let step = std::mem::take(&mut self.step);
            self.go(step);
        }
        if !self.fit(line) {
            self.forget();
        }
    }

    /// Shows the suggestion so much further on, round and round. The first time, more are asked for.
    pub fn step(&mut self, by: isize) -> Option<Request> {
        let mut request = None;
        if !self.complete {
            let line = self.base.clone();
            request = Some(self.ask(&line, true));
            if self.suggestions.len() < 2 {
                self.step = by;
            }
        }
        self.go(by);
        request
    }

    fn go(&mut self, by: isize) {
        if self.suggestions.len() > 1 {
            self.index = (self.index as isize + by).rem_euclid(self.suggestions.len() as isize) as usize;
            self.chosen = true;
        }
    }

    /// Takes the suggestion away until the line changes. Late replies are not wanted either.
    pub fn dismiss(&mut self, line: &str) {
        self.sequence += 1;
        self.settle(line);
        self.forget();
    }

    /// Takes the whole suggestion.
    pub fn accept(&mut self) -> Option<Edit> {
        let text = self.suggestions.get(self.index)?.clone();
        let edit = if self.replaces { Edit::Replace(text) } else { Edit::Insert(text) };
        self.forget();
        Some(edit)
    }

    /// Takes the next word of the suggestion: blanks, then everything up to the next blank, or to a slash, which
    /// belongs to it. The rest stays.
    pub fn accept_word(&mut self) -> Option<Edit> {
        if self.replaces {
            return self.accept();
        }
        let text = self.suggestions.get(self.index)?;
        let word = text.len() - text.trim_start().len();
        let end =
            text[word..].find(|next: char| next.is_whitespace() || next == '/').map_or(text.len(), |end| {
                let end = word + end;
                if text[end..].starts_with('/') { end + 1 } else { end }
            });
        let word = text[..end].to_owned();
        let line = format!("{}{word}", self.base);
        if !self.fit(&line) {
            self.forget();
        }
        Some(Edit::Insert(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str, texts: &[&str]) -> Session {
        let mut session = Session::default();
        let request = session.ask(line, false);
        session.reply(reply(request.sequence, texts), line);
        session
    }

    fn reply(sequence: u64, texts: &[&str]) -> Reply {
        Reply { sequence, replaces: false, texts: texts.iter().map(|&text| text.to_owned()).collect() }
    }

    #[test]
    fn what_was_typed_of_a_suggestion_is_taken_off_it() {
        let mut session = answered("git ch", &["erry-pick", "eckout x", "eck"]);
        session.go(1);
        session.update("git che");
        assert_eq!(session.suggestion("git che"), Some("ckout x"));
        assert_eq!(session.suggestions, ["rry-pick", "ckout x", "ck"]);
        session.update("git chec");
        assert_eq!(session.suggestions, ["kout x", "k"]);
        assert!(!session.is_open("git chec", true));
        session.update("git chex");
        assert_eq!(session.suggestion("git chex"), None);
        assert!(session.is_open("git chex", true));
    }

    #[test]
    fn a_suggestion_typed_to_its_end_is_used_up() {
        let mut session = answered("l", &["s"]);
        session.update("ls");
        assert_eq!(session.suggestion("ls"), None);
        assert!(session.is_open("ls", true));
    }

    #[test]
    fn only_the_newest_request_is_answered() {
        let mut session = Session::default();
        let old = session.ask("l", false);
        let new = session.ask("lx", false);
        session.reply(reply(old.sequence, &["x stale"]), "lx");
        assert_eq!(session.suggestion("lx"), None);
        session.reply(reply(new.sequence, &[" fresh"]), "lx");
        assert_eq!(session.suggestion("lx"), Some(" fresh"));
    }

    #[test]
    fn a_late_reply_counts_as_far_as_it_fits() {
        let mut session = Session::default();
        let request = session.ask("l", false);
        session.update("ls");
        session.reply(reply(request.sequence, &["s -la"]), "ls");
        assert_eq!(session.suggestion("ls"), Some(" -la"));
        session.reply(reply(request.sequence, &["t"]), "ls");
        assert_eq!(session.suggestion("ls"), None);
    }

    #[test]
    fn a_line_is_asked_about_once() {
        let mut session = Session::default();
        assert!(session.is_open("ls", true) && !session.is_open("  ", true));
        let request = session.ask("ls", false);
        assert!(!session.is_open("ls", true));
        session.dismiss("ls");
        session.reply(reply(request.sequence, &[" -l"]), "ls");
        assert_eq!(session.suggestion("ls"), None);
        session.update("lsx");
        session.update("ls");
        assert!(session.is_open("ls", true));
    }

    #[test]
    fn before_anything_is_typed_is_asked_once_after_a_command() {
        let mut session = Session::default();
        session.begin(false);
        assert!(!session.is_open("", true), "nothing has run");
        session.begin(true);
        assert!(session.is_open("", true) && !session.is_open("", false) && !session.is_open(" ", true));
        let request = session.ask("", false);
        assert!(!session.is_open("", true));
        session.reply(reply(request.sequence, &["git push"]), "");
        assert_eq!(session.suggestion(""), Some("git push"));
        session.update("g");
        assert_eq!(session.suggestion("g"), Some("it push"));
        session.update("x");
        session.update("");
        assert!(session.suggestion("").is_none() && !session.is_open("", true));
        session.begin(true);
        session.update("x");
        session.update("");
        assert!(!session.is_open("", true), "something was typed");
    }

    #[test]
    fn stepping_asks_for_more_and_then_goes_there() {
        let mut session = answered("make b", &["uild"]);
        let request = session.step(1).unwrap();
        assert!(request.asked);
        assert_eq!(session.suggestion("make b"), Some("uild"));
        session.reply(reply(request.sequence, &["uild", "ench", "ook"]), "make b");
        assert_eq!(session.suggestion("make b"), Some("ench"));
        assert_eq!(session.step(-2), None);
        assert_eq!(session.suggestion("make b"), Some("ook"));
        // The model's answer to the same request moves nothing.
        session.reply(reply(request.sequence, &["ar", "uild", "ook"]), "make b");
        assert_eq!(session.suggestion("make b"), Some("ook"));
    }

    #[test]
    fn the_middle_of_a_line_is_filled_and_filled_otherwise() {
        let exchange = |remove, insert: &str| Some(Exchange { remove, insert: insert.to_owned() });
        let mut session = Session::default();
        let request = session.ask_between("git main", 4).unwrap();
        assert!(request.asked && request.cursor == 4);
        let found = session.reply_between(&reply(request.sequence, &["pull ", "push "]), "git main", 4);
        assert_eq!(found, exchange(0, "pull "));
        // The model's answer comes when one stands there.
        let more = reply(request.sequence, &["merge ", "pull ", "push "]);
        assert_eq!(session.reply_between(&more, "git pull main", 9), None);
        assert_eq!(session.step_between("git pull main", 9), exchange(5, "merge "));
        assert_eq!(session.step_between("git merge main", 10), exchange(6, "push "));
        assert_eq!(session.step_between("git push main", 9), exchange(5, ""));
        assert_eq!(session.step_between("git main", 4), exchange(0, "pull "));
        assert_eq!(session.step_between("git pull mainx", 9), None, "the line has changed");
        let request = session.ask_between("git main", 4).unwrap();
        let late = reply(request.sequence, &["pull "]);
        assert_eq!(session.reply_between(&late, "git  main", 5), None);
        assert_eq!(session.suggestion("git main"), None, "nothing is drawn");
    }

    #[test]
    fn words_end_at_blanks_and_after_slashes() {
        let mut session = answered("cp", &["  src/lib.rs now"]);
        let mut words = Vec::new();
        while let Some(Edit::Insert(word)) = session.accept_word() {
            words.push(word);
        }
        assert_eq!(words, ["  src/", "lib.rs", " now"]);
    }

    #[test]
    fn a_description_is_replaced() {
        let mut session = Session::default();
        let request = session.ask("# say hi", false);
        session.reply(
            Reply { sequence: request.sequence, replaces: true, texts: vec!["echo hi".to_owned()] },
            "# say hi",
        );
        assert!(session.replaces());
        assert_eq!(session.accept_word(), Some(Edit::Replace("echo hi".to_owned())));
        let request = session.ask("# say hi", false);
        session.update("# say hix");
        session.reply(
            Reply { sequence: request.sequence, replaces: true, texts: vec!["x".to_owned()] },
            "# say hix",
        );
        assert_eq!(session.suggestion("# say hix"), None);
    }
}

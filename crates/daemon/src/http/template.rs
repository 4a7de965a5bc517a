//! Chat templates: how a model was taught to read a conversation, as a Jinja template in the files of the model.
//!
//! A template comes with the weights, from strangers. It is rendered with no access to anything and a limit on its
//! steps.

use std::{fs, path::Path, sync::Arc};

use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig, value::Serde};
use nemoterm_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Steps that rendering may take: some thousand messages.
const FUEL: u64 = 2_000_000;

/// A message of a conversation, as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: String,
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A model's template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// `tokenizer_config.json`, as far as templates go.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Form>,
    bos_token: Option<Value>,
    eos_token: Option<Value>,
}

/// One template, or several with names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Form {
    One(String),
    Several(Vec<Named>),
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    template: String,
}

impl Template {
    /// The template of a model; `None` where it has none.
    ///
    /// # Errors
    /// Where its files can't be read or the template is no template; the message names the file.
    pub fn of(source: &Source) -> Result<Option<Arc<Self>>, String> {
        let directory = match source {
            Source::Directory(directory) => directory,
            Source::Gguf(file) => file.parent().unwrap_or(Path::new(".")),
            Source::Memory { .. } => return Ok(None),
        };
        let path = directory.join("tokenizer_config.json");
        let config = match read(&path)? {
            Some(text) => {
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => TokenizerConfig::default(),
        };
        // The file of its own is the newer way to ship a template, and goes before the other.
        let path = directory.join("chat_template.jinja");
        let template = match (read(&path)?, config.chat_template) {
            (Some(text), _) | (None, Some(Form::One(text))) => text,
            (None, Some(Form::Several(templates))) => {
                match templates.into_iter().find(|template| template.name == "default") {
                    Some(Named { template, .. }) => template,
                    None => return Ok(None),
                }
            }
            (None, None) => return Ok(None),
        };
        let (bos_token, eos_token) = (name(config.bos_token), name(config.eos_token));
        Self::new(template, bos_token, eos_token).map(|template| Some(Arc::new(template)))
    }

    fn new(source: String, bos_token: String, eos_token: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As Hugging Face's transformers sets Jinja up, which is what templates are written for.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| explain(&error))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned("chat", source).map_err(|error| explain(&error))?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The conversation as the model reads it, up to where it goes on.
    ///
    /// # Errors
    /// In the template's own words, where it does not like the conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String, String> {
        let template = self.environment.get_template("chat").map_err(|error| explain(&error))?;
        let context = minijinja::context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        template.render(context).map_err(|error| explain(&error))
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
    }
}

/// A token's name; it stands alone, or with properties.
fn name(token: Option<Value>) -> String {
    let token = token.unwrap_or_default();
    token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
}

fn explain(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        _ => format!("the model's chat template failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
        {{ bos_token }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'].strip() + \
        '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn template(text: &str) -> Result<Template, String> {
        Template::new(text.to_owned(), "<s>".to_owned(), "</s>".to_owned())
    }

    fn messages(contents: &[&str]) -> Vec<Message> {
        let message = |(i, content): (usize, &&str)| Message {
            role: if i % 2 == 0 { "user" } else { "assistant" }.to_owned(),
            content: (*content).to_owned(),
            name: None,
        };
        contents.iter().enumerate().map(message).collect()
    }

    #[test]
    fn a_conversation_is_written_as_the_template_says() {
        let text = template(CHATML).unwrap().render(&messages(&["hi ", "yes?", "{{ 7 * 7 }}"])).unwrap();
        let expected = "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes?<|im_end|>\n\
            <|im_start|>user\n{{ 7 * 7 }}<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_template_may_refuse_and_may_not_run_for_ever() {
        let refusing = template("{{ raise_exception('roles must alternate') }}").unwrap();
        assert_eq!(refusing.render(&messages(&["x"])), Err("roles must alternate".to_owned()));
        let endless =
            template("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}");
        assert!(endless.unwrap().render(&[]).unwrap_err().contains("fuel"));
        assert!(template("{% for %}").unwrap_err().contains("template"));
        assert!(template("{% include '/etc/passwd' %}").unwrap_err().contains("include"));
    }

    #[test]
    fn it_is_found_in_the_models_files() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::Directory(dir.path().to_path_buf());
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let render = || Template::of(&source).unwrap().map(|found| found.render(&[]).unwrap());
        assert_eq!(render(), None);
        write("tokenizer_config.json", "{\"add_bos_token\": true}");
        assert_eq!(render(), None);
        let json = r#"{"chat_template": "one {{ eos_token }}", "eos_token": {"content": "</s>"}}"#;
        write("tokenizer_config.json", json);
        assert_eq!(render().as_deref(), Some("one </s>"));
        let json = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        write("tokenizer_config.json", json);
        assert_eq!(render().as_deref(), Some("d"));
        write("chat_template.jinja", "file");
        assert_eq!(render().as_deref(), Some("file"));
        write("tokenizer_config.json", "{");
        assert!(Template::of(&source).unwrap_err().contains("tokenizer_config.json"));
    }
}

//! What an interpreter runs: the jar, the module, the script.

use super::ProcessFacts;

/// A language's way with arguments.
struct Language {
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options whose next argument names what is run.
    naming: &'static [&'static str],
    /// Options after which code follows, which has no name.
    code: &'static [&'static str],
}

const JAVA: Language = Language {
    valued: &[
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--upgrade-module-path",
        "--add-modules",
        "--add-opens",
        "--add-exports",
        "--add-reads",
        "--limit-modules",
        "--enable-native-access",
        "--source",
    ],
    naming: &["-jar", "-m", "--module"],
    code: &[],
};

const PYTHON: Language = Language {
    valued: &["-W", "-X"],
    naming: &["-m"],
    code: &["-c"],
};

const NODE: Language = Language {
    valued: &[
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
    ],
    naming: &[],
    code: &["-e", "--eval", "-p", "--print", "-pe"],
};

const RUBY: Language = Language {
    valued: &["-I", "-r", "-C", "-E"],
    naming: &[],
    code: &["-e"],
};

const PHP: Language = Language {
    valued: &["-c", "-d", "-S", "-t", "-z"],
    naming: &["-f"],
    code: &["-r"],
};

const PLAIN: Language = Language {
    valued: &[],
    naming: &[],
    code: &["-c", "-e"],
};

/// Python programs that run somebody else's application.
const APPLICATION_SERVERS: [&str; 5] = ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian"];

/// Name of what a process runs; `None` if it is not run by an interpreter that is known.
pub(super) fn program_name(facts: &ProcessFacts) -> Option<String> {
    if let Some(title) = facts
        .cmdline
        .first()
        .and_then(|title| bracketed_title(title))
    {
        return Some(title);
    }
    let interpreter = interpreter(facts)?;
    let arguments = facts.cmdline.get(1..)?;
    match interpreter.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.') {
        "java" => java(arguments),
        "python" | "pypy" => python(arguments),
        "node" | "nodejs" => script(run(arguments, &NODE)?.what),
        "bun" | "deno" => script(run(without_subcommand(arguments), &NODE)?.what),
        "ruby" => script(run(arguments, &RUBY)?.what),
        "php" | "php-cgi" => script(run(arguments, &PHP)?.what),
        "perl" | "dotnet" => script(run(arguments, &PLAIN)?.what),
        _ => None,
    }
}

/// `/` or relative path to its last part.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The executable's name tells the interpreter, whatever the process calls itself; without it the first argument.
fn interpreter(facts: &ProcessFacts) -> Option<&str> {
    let path = facts
        .exe
        .as_deref()
        .or(facts.cmdline.first().map(String::as_str))?;
    Some(file_name(
        path.strip_suffix(super::selector::DELETED).unwrap_or(path),
    ))
}

/// Servers that write the application into their title: `gunicorn: worker [shop.wsgi:app]`,
/// `puma: cluster worker 0: 17 [shop]`, `puma 6.4 (tcp://0.0.0.0:80) [shop]`.
fn bracketed_title(title: &str) -> Option<String> {
    if !title.starts_with("gunicorn: ") && !title.starts_with("puma") {
        return None;
    }
    let (_, rest) = title.split_once('[')?;
    let (name, _) = rest.split_once(']')?;
    let name = name.trim();
    (!name.is_empty()).then(|| application(name).unwrap_or_else(|| name.to_owned()))
}

/// What is run.
struct Run<'a> {
    what: &'a str,
    /// An option named it, it is not a file.
    by_option: bool,
    /// The arguments behind it.
    rest: &'a [String],
}

fn run<'a>(arguments: &'a [String], language: &Language) -> Option<Run<'a>> {
    let mut position = 0;
    while let Some(argument) = arguments.get(position).map(String::as_str) {
        if language.code.contains(&argument) {
            return None;
        }
        let by_option = language.naming.contains(&argument);
        if by_option || argument == "--" {
            position += 1;
        }
        if by_option || argument == "--" || !argument.starts_with('-') {
            let what = arguments.get(position)?;
            return Some(Run {
                what,
                by_option,
                rest: &arguments[position + 1..],
            });
        }
        position += if language.valued.contains(&argument) {
            2
        } else {
            1
        };
    }
    None
}

fn without_subcommand(arguments: &[String]) -> &[String] {
    match arguments.first().map(String::as_str) {
        Some("run" | "serve") => &arguments[1..],
        _ => arguments,
    }
}

fn java(arguments: &[String]) -> Option<String> {
    let what = run(arguments, &JAVA)?.what;
    // Of `module/main.Class` the module is the name.
    let what = if is_file(what) {
        what
    } else {
        what.split('/').next().unwrap_or(what)
    };
    let name = file_name(what);
    let name = [".jar", ".war", ".java"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

fn is_file(text: &str) -> bool {
    [".jar", ".war", ".java"]
        .iter()
        .any(|suffix| text.ends_with(suffix))
}

fn python(arguments: &[String]) -> Option<String> {
    let Run {
        what,
        by_option,
        rest,
    } = run(arguments, &PYTHON)?;
    let name = file_name(what);
    if APPLICATION_SERVERS.contains(&name) {
        let served = rest.iter().find_map(|argument| application(argument));
        return Some(served.unwrap_or_else(|| name.to_owned()));
    }
    if name == "manage.py" {
        return directory(what).map_or_else(|| script(what), |name| Some(name.to_owned()));
    }
    if by_option {
        Some(what.to_owned())
    } else {
        script(what)
    }
}

/// `shop.wsgi:app` is `shop`; `None` for what is not `module:object` (addresses, say).
fn application(text: &str) -> Option<String> {
    let (module, object) = text.split_once(':')?;
    let is_identifier = |text: &str| {
        text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && text
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    let object = object.split('(').next().unwrap_or(object);
    if !module.split('.').all(is_identifier) || !object.split('.').all(is_identifier) {
        return None;
    }
    let name = module
        .strip_suffix(".wsgi")
        .or(module.strip_suffix(".asgi"))
        .unwrap_or(module);
    Some(name.to_owned())
}

/// File name without its suffix; an `index` is named after its directory.
fn script(path: &str) -> Option<String> {
    let name = file_name(path);
    let stem = match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    };
    let stem = if stem == "index" {
        directory(path).unwrap_or(stem)
    } else {
        stem
    };
    (!stem.is_empty()).then(|| stem.to_owned())
}

/// The directory that a file is in, without the usual places for built code.
fn directory(path: &str) -> Option<&str> {
    const PLACES: [&str; 6] = ["src", "dist", "build", "lib", "bin", "public"];
    let (directories, _) = path.rsplit_once('/')?;
    directories
        .rsplit('/')
        .find(|name| !name.is_empty() && *name != "." && !PLACES.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(exe: &str, cmdline: &str) -> Option<String> {
        program_name(&ProcessFacts {
            exe: Some(exe.to_owned()),
            cmdline: cmdline.split('|').map(str::to_owned).collect(),
            ..ProcessFacts::default()
        })
    }

    #[test]
    fn names_what_interpreters_run() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            (
                "/usr/lib/jvm/bin/java",
                "java|-Xmx1g|-cp|a:b|-jar|/srv/shop.jar|--port|1",
                Some("shop"),
            ),
            (
                "/usr/bin/java",
                "java|-cp|x|com.example.Main|a",
                Some("com.example.Main"),
            ),
            (
                "/usr/bin/java",
                "java|-p|mods|-m|shop.api/com.example.Main",
                Some("shop.api"),
            ),
            ("/usr/bin/java", "java|/tmp/Server.java", Some("Server")),
            ("/usr/bin/java", "java|-version", None),
            (
                "/usr/bin/python3.11",
                "python3|-m|http.server|8000",
                Some("http.server"),
            ),
            (
                "/usr/bin/python3.11",
                "python3|-u|-W|ignore|/srv/app.py",
                Some("app"),
            ),
            ("/usr/bin/python3.11", "python3|-c|print(1)", None),
            (
                "/usr/bin/python3.11",
                "python3|/usr/bin/gunicorn|-b|127.0.0.1:80|shop.wsgi:app",
                Some("shop"),
            ),
            (
                "/usr/bin/python3.11",
                "python3|-m|uvicorn|api.main:create()|--port|1",
                Some("api.main"),
            ),
            (
                "/usr/bin/python3.11",
                "python3|/usr/bin/gunicorn|-b|unix:/run/x|-c|conf.py",
                Some("gunicorn"),
            ),
            (
                "/usr/bin/python3.11",
                "gunicorn: worker [shop.wsgi:app]",
                Some("shop"),
            ),
            (
                "/usr/bin/python3.11",
                "python3|/srv/shop/manage.py|runserver",
                Some("shop"),
            ),
            (
                "/usr/bin/node",
                "node|--require|x.js|--inspect|/srv/cart/dist/index.js",
                Some("cart"),
            ),
            ("/usr/bin/node", "node|server.js", Some("server")),
            ("/usr/bin/node", "node|index.js", Some("index")),
            ("/usr/bin/node", "node|-e|1", None),
            (
                "/usr/bin/deno",
                "deno|run|--allow-net|main.ts",
                Some("main"),
            ),
            ("/usr/bin/ruby3.1", "ruby|-I|lib|app.rb", Some("app")),
            (
                "/usr/bin/ruby3.1",
                "puma: cluster worker 0: 17 [shop]",
                Some("shop"),
            ),
            (
                "/usr/bin/php8.2",
                "php|-S|0.0.0.0:80|router.php",
                Some("router"),
            ),
            ("/usr/bin/perl", "perl|serve.pl", Some("serve")),
            (
                "/usr/share/dotnet/dotnet",
                "dotnet|Shop.Api.dll",
                Some("Shop.Api"),
            ),
            ("/usr/sbin/nginx", "nginx: worker process", None),
            ("/usr/bin/python3.11", "python3", None),
        ];
        for (exe, cmdline, expected) in cases {
            assert_eq!(name(exe, cmdline).as_deref(), *expected, "{cmdline}");
        }
        assert_eq!(program_name(&ProcessFacts::default()), None);
    }
}

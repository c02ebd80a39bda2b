// patchbay apply and export: the whole host as a YAML file. The file goes to the server as it is, and the server reads
// it; only the name of the file is put before the lines that the server names.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "changes.h"
#include "command.h"
#include "format.h"

namespace patchbay::cli {
namespace {

constexpr std::size_t file_bytes_max = 1024 * 1024;  // what the API takes

struct Words {
  std::string file;
  bool dry_run = false;
};

struct Close {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};

// The text of a file, "-" for standard input; or a sentence.
tl::expected<std::string, std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, Close> opened(path == "-" ? nullptr : std::fopen(path.c_str(), "re"));
  std::FILE* file = path == "-" ? stdin : opened.get();
  if (file == nullptr) {
    return tl::unexpected(fmt::format("cannot read {}: {}; give -f the path of a YAML file, or - for standard input",
                                      printable(path), std::strerror(errno)));
  }
  std::string text(file_bytes_max + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  if (std::ferror(file) != 0) {
    return tl::unexpected(fmt::format("cannot read {}: {}; give -f the path of a YAML file, or - for standard input",
                                      printable(path), std::strerror(errno)));
  }
  if (text.size() > file_bytes_max) {
    return tl::unexpected(fmt::format("{} has more than {} bytes, and no host needs so many; is it the file you mean?",
                                      printable(path), file_bytes_max));
  }
  return text;
}

std::string applied_text(const Json& answer) {
  const bool dry_run = member_of(answer, "dry_run") == Json(true);
  std::string text;
  for (const Json& change : member_of(answer, "changes")) {
    const auto what = text_of(change, "verb") == "delete" ? "" : ": " + what_changed(change);
    const auto kind = text_of(change, "kind");
    const std::string object = kind == "host" ? kind : kind + " " + text_of(change, "name");
    text += printable(fmt::format("{}{} {}{}", dry_run ? "would " : "", text_of(change, "verb"), object, what)) + "\n";
  }
  return text.empty() ? "nothing to change\n" : text;
}

void add_apply(CLI::App& app, Context& context) {
  auto* verb = add_verb(app, "apply",
                        "Make the whole host what a YAML file says: what is not in it is deleted; all of it or nothing",
                        "patchbay apply -f host.yaml --dry-run\n  patchbay apply -f host.yaml");
  auto words = std::make_shared<Words>();
  verb->add_option("-f,--file", words->file, "The file; - for standard input")->required()->type_name("FILE");
  verb->add_flag("--dry-run", words->dry_run, "Say what would be changed, and change nothing");
  verb->callback([&context, words] {
    context.run = [&context, words] {
      const auto text = read_file(words->file);
      if (!text) {
        fmt::print(stderr, "{}\n", text.error());
        return exit_refused;
      }
      Question question{.method = "POST", .path = words->dry_run ? "/v1/apply?dry_run=true" : "/v1/apply"};
      question.yaml = *text;
      question.about_lines = (words->file == "-" ? "standard input" : printable(words->file)) + ", ";
      return ask_and_print(context, question, applied_text);
    };
  });
}

void add_export(CLI::App& app, Context& context) {
  auto* verb =
      add_verb(app, "export", "Print the whole host as a YAML file that apply takes", "patchbay export > host.yaml");
  verb->callback([&context] {
    context.run = [&context] {
      return ask_and_print(context, {.path = context.json ? "/v1/export?format=json" : "/v1/export"},
                           [](const Json& answer) { return answer.is_string() ? answer.get<std::string>() : "\n"; });
    };
  });
}

}  // namespace

void add_host_file(CLI::App& app, Context& context) {
  add_apply(app, context);
  add_export(app, context);
}

}  // namespace patchbay::cli

// What the shell may offer next.
//
// Theory  The script that `patchbay completion` prints asks this program at each key press, by the first word
//         complete_word, with the words so far. The answer is read off the command line's own definition, so that what is
//         offered is what is taken; names of objects are asked from the daemon, for as long as names_time.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "command.h"

namespace patchbay::cli {

inline constexpr const char* complete_word = "complete-words";
inline constexpr std::chrono::seconds names_time{1};
inline constexpr const char* files = ":files";  // as the only candidate: the names of files

// Names of the objects at an API path ("/v1/vnics"); none if there is no answer.
using Names = std::function<std::vector<std::string>(const std::string& socket_path, const std::string& path)>;

// What fits in place of the last of `words`, which may be empty; `words` are without the program's name.
[[nodiscard]] std::vector<std::string> candidates(const CLI::App& app, const Context& context,
                                                  const std::vector<std::string>& words, const Names& names);

// Prints the candidates, one a line; gives the exit code.
[[nodiscard]] int complete(const CLI::App& app, const Context& context, const std::vector<std::string>& words);

}  // namespace patchbay::cli

#include "inc/text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

namespace infer {
namespace {

// A JSON string of plain ASCII, or nothing where `bytes` are not UTF-8.
std::optional<std::string> Quoted(std::string_view bytes) {
  try {
    return nlohmann::json(bytes).dump(-1, ' ', true);
  } catch (const nlohmann::json::type_error&) {
    return std::nullopt;
  }
}

bool HoldsControlCharacter(std::string_view utf8) {
  const auto is_control = [](char c) { return (c >= 0 && c < 0x20) || c == 0x7F; };
  for (std::size_t i = 0; i + 1 < utf8.size(); ++i)  // U+0080 to U+009F
    if (utf8[i] == '\xC2' && static_cast<unsigned char>(utf8[i + 1]) < 0xA0) return true;
  return std::any_of(utf8.begin(), utf8.end(), is_control);
}

}  // namespace

std::string JsonQuoted(std::string_view bytes) {
  std::string out = "\"";
  while (!bytes.empty()) {
    // All that is left, or the one character at its beginning: of one to four bytes, or a byte that begins none.
    std::optional<std::string> quoted;
    std::size_t taken = 0;
    for (const std::size_t length : {bytes.size(), std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4}}) {
      if (quoted || length > bytes.size()) continue;
      quoted = Quoted(bytes.substr(0, length));
      taken = length;
    }
    if (quoted) {
      out.append(*quoted, 1, quoted->size() - 2);
      bytes.remove_prefix(taken);
      continue;
    }
    std::array<char, 8> escape{};
    std::snprintf(escape.data(), escape.size(), "\\udc%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(bytes[0])));
    out.append(escape.data());
    bytes.remove_prefix(1);
  }
  return out + '"';
}

std::string Printable(std::string_view text) {
  return Quoted(text) && !HoldsControlCharacter(text) ? std::string(text) : JsonQuoted(text);
}

}  // namespace infer

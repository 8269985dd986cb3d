#include "inc/json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <utility>

#include "inc/errors.h"

namespace infer {
namespace {

constexpr int kMaxDepth = 64;

void AppendUtf8(std::uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0U | (code >> 6U)));
    out->push_back(static_cast<char>(0x80U | (code & 0x3FU)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0U | (code >> 12U)));
    out->push_back(static_cast<char>(0x80U | ((code >> 6U) & 0x3FU)));
    out->push_back(static_cast<char>(0x80U | (code & 0x3FU)));
  } else {
    out->push_back(static_cast<char>(0xF0U | (code >> 18U)));
    out->push_back(static_cast<char>(0x80U | ((code >> 12U) & 0x3FU)));
    out->push_back(static_cast<char>(0x80U | ((code >> 6U) & 0x3FU)));
    out->push_back(static_cast<char>(0x80U | (code & 0x3FU)));
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json Document() {
    Json value = Value(0);
    SkipSpace();
    if (at_ != text_.size()) Fail("something follows the value");
    return value;
  }

 private:
  [[noreturn]] void Fail(const std::string& why) const {
    throw UsageError("not JSON at byte " + std::to_string(at_) + ": " + why);
  }

  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  char Peek() {
    SkipSpace();
    if (at_ == text_.size()) Fail("it ends too early");
    return text_[at_];
  }

  void Expect(char wanted) {
    if (Peek() != wanted) Fail(std::string("expected '") + wanted + "'");
    ++at_;
  }

  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json Value(int depth) {
    if (depth > kMaxDepth) Fail("nested too deeply");
    switch (Peek()) {
      case '{': return Json(Members(depth));
      case '[': return Json(Elements(depth));
      case '"': return Json(String());
      default: break;
    }
    if (Take("true")) return Json(true);
    if (Take("false")) return Json(false);
    if (Take("null")) return {};
    return Json(Number());
  }

  Json::Object Members(int depth) {
    Json::Object members;
    Expect('{');
    if (Peek() == '}') {
      ++at_;
      return members;
    }
    while (true) {
      if (Peek() != '"') Fail("expected a key");
      std::string key = String();
      Expect(':');
      if (!members.emplace(std::move(key), Value(depth + 1)).second) Fail("a key is there twice");
      if (Peek() == '}') {
        ++at_;
        return members;
      }
      Expect(',');
    }
  }

  Json::Array Elements(int depth) {
    Json::Array elements;
    Expect('[');
    if (Peek() == ']') {
      ++at_;
      return elements;
    }
    while (true) {
      elements.push_back(Value(depth + 1));
      if (Peek() == ']') {
        ++at_;
        return elements;
      }
      Expect(',');
    }
  }

  double Number() {
    // from_chars takes "inf" and "nan", which are not JSON: a number starts with a digit or a minus.
    const char first = text_[at_];
    if (first != '-' && (first < '0' || first > '9')) Fail("expected a value");
    double number = 0;
    const char* end = text_.data() + text_.size();
    const auto [stop, error] = std::from_chars(text_.data() + at_, end, number);
    if (error != std::errc() || !std::isfinite(number)) Fail("expected a number");
    at_ = static_cast<std::size_t>(stop - text_.data());
    return number;
  }

  std::uint32_t Hex4() {
    std::uint32_t code = 0;
    if (at_ + 4 > text_.size()) Fail("it ends inside \\u");
    const char* begin = text_.data() + at_;
    const auto [stop, error] = std::from_chars(begin, begin + 4, code, 16);
    if (error != std::errc() || stop != begin + 4) Fail("\\u needs four hexadecimal digits");
    at_ += 4;
    return code;
  }

  std::string String() {
    std::string out;
    ++at_;  // the opening quote
    while (true) {
      if (at_ == text_.size()) Fail("it ends inside a string");
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) Fail("a control character stands in a string");
      if (c != '\\') {
        out.push_back(c);
        continue;
      }
      Escape(&out);
    }
  }

  void Escape(std::string* out) {
    if (at_ == text_.size()) Fail("it ends inside an escape");
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kBytes = "\"\\/\b\f\n\r\t";
    const char c = text_[at_++];
    if (const std::size_t which = kNames.find(c); which != std::string_view::npos) {
      out->push_back(kBytes[which]);
      return;
    }
    if (c != 'u') Fail("unknown escape");
    std::uint32_t code = Hex4();
    if (code >= 0xDC80 && code <= 0xDCFF) {  // a raw byte, the inverse of JsonQuoted
      out->push_back(static_cast<char>(code - 0xDC00));
      return;
    }
    if (code >= 0xD800 && code < 0xDC00) {
      if (!Take("\\u")) Fail("half of a surrogate pair");
      const std::uint32_t low = Hex4();
      if (low < 0xDC00 || low > 0xDFFF) Fail("half of a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
    }
    AppendUtf8(code, out);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

template <class T>
const T& As(const T* value, std::string_view what, const char* kind) {
  if (value == nullptr) throw UsageError(std::string(what) + " must be " + kind);
  return *value;
}

// Length of the well-formed UTF-8 sequence at the start of `bytes` and its code point; length 0 when malformed.
std::pair<std::size_t, std::uint32_t> DecodeUtf8(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
  const std::uint32_t first = byte(0);
  std::size_t length = 0;
  std::uint32_t code = 0;
  std::uint32_t smallest = 0;
  if (first < 0x80) return {1, first};
  if (first >= 0xC2 && first < 0xE0)
    length = 2, code = first & 0x1FU, smallest = 0x80;
  else if (first >= 0xE0 && first < 0xF0)
    length = 3, code = first & 0x0FU, smallest = 0x800;
  else if (first >= 0xF0 && first < 0xF5)
    length = 4, code = first & 0x07U, smallest = 0x10000;
  else
    return {0, 0};
  if (bytes.size() < length) return {0, 0};
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return {0, 0};
    code = (code << 6U) | (byte(i) & 0x3FU);
  }
  if (code < smallest || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {0, 0};
  return {length, code};
}

void AppendEscape(std::uint32_t unit, std::string* out) {
  std::array<char, 12> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "\\u%04x", static_cast<unsigned>(unit));
  out->append(buffer.data());
}

}  // namespace

Json Json::Parse(std::string_view text) { return Parser(text).Document(); }

bool Json::AsBool(std::string_view what) const { return As(std::get_if<bool>(&value_), what, "true or false"); }

double Json::AsNumber(std::string_view what) const { return As(std::get_if<double>(&value_), what, "a number"); }

int Json::AsInt(std::string_view what) const {
  const double number = AsNumber(what);
  if (number != std::floor(number) || std::fabs(number) > std::numeric_limits<int>::max())
    throw UsageError(std::string(what) + " must be a whole number");
  return static_cast<int>(number);
}

const std::string& Json::AsString(std::string_view what) const {
  return As(std::get_if<std::string>(&value_), what, "a string");
}

const Json::Array& Json::AsArray(std::string_view what) const {
  return As(std::get_if<Array>(&value_), what, "a list");
}

const Json::Object& Json::AsObject(std::string_view what) const {
  return As(std::get_if<Object>(&value_), what, "an object");
}

const Json* Json::Find(std::string_view key) const {
  const Object& members = AsObject(std::string("what holds ").append(key));
  const auto found = members.find(key);
  return found == members.end() ? nullptr : &found->second;
}

const Json& Json::At(std::string_view key) const {
  const Json* found = Find(key);
  if (found == nullptr) throw UsageError(std::string(key) + " is missing");
  return *found;
}

std::string JsonQuoted(std::string_view bytes) {
  std::string out = "\"";
  while (!bytes.empty()) {
    const auto [length, code] = DecodeUtf8(bytes);
    if (length == 0) {
      AppendEscape(0xDC00U + static_cast<unsigned char>(bytes.front()), &out);
      bytes.remove_prefix(1);
      continue;
    }
    if (code == '"' || code == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(code));
    } else if (code >= 0x20 && code < 0x7F) {
      out.push_back(static_cast<char>(code));
    } else if (code < 0x10000) {
      AppendEscape(code, &out);
    } else {
      AppendEscape(0xD800U + ((code - 0x10000U) >> 10U), &out);
      AppendEscape(0xDC00U + ((code - 0x10000U) & 0x3FFU), &out);
    }
    bytes.remove_prefix(length);
  }
  out.push_back('"');
  return out;
}

bool IsPlainText(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto [length, code] = DecodeUtf8(bytes);
    if (length == 0 || code < 0x20 || (code >= 0x7F && code < 0xA0)) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

}  // namespace infer

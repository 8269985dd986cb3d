// Reads the JSON of a manifest (RFC 8259) and writes JSON strings.
#ifndef ASCEND310_INFER_INC_JSON_H_
#define ASCEND310_INFER_INC_JSON_H_

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace infer {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  Json() = default;
  explicit Json(bool value) : value_(value) {}
  explicit Json(double value) : value_(value) {}
  explicit Json(std::string value) : value_(std::move(value)) {}
  explicit Json(Array value) : value_(std::move(value)) {}
  explicit Json(Object value) : value_(std::move(value)) {}

  // Throws UsageError naming the byte at which `text` stops being JSON. Values may nest 64 deep.
  static Json Parse(std::string_view text);

  // The value as the given kind; UsageError naming `what` when it is of another kind.
  [[nodiscard]] bool AsBool(std::string_view what) const;
  [[nodiscard]] double AsNumber(std::string_view what) const;
  [[nodiscard]] int AsInt(std::string_view what) const;
  [[nodiscard]] const std::string& AsString(std::string_view what) const;
  [[nodiscard]] const Array& AsArray(std::string_view what) const;
  [[nodiscard]] const Object& AsObject(std::string_view what) const;

  // A member of an object; UsageError when this is no object or the key is missing.
  [[nodiscard]] const Json& At(std::string_view key) const;
  // The same, or nullptr when the key is missing.
  [[nodiscard]] const Json* Find(std::string_view key) const;

 private:
  std::variant<std::monostate, bool, double, std::string, Array, Object> value_;
};

// `bytes` as a quoted JSON string of plain ASCII. Bytes that are not UTF-8 become the lone surrogates
// U+DC80 to U+DCFF, as Python's "surrogateescape" does, so that a reader gets the same file name back.
std::string JsonQuoted(std::string_view bytes);

// Whether `bytes` are UTF-8 without control characters.
bool IsPlainText(std::string_view bytes);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_JSON_H_

#include "inc/manifest.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "inc/errors.h"
#include "inc/sha256.h"
#include "inc/text.h"

namespace infer {
namespace {

using nlohmann::json;

constexpr int kLargestSide = 1 << 14;

// The library takes the last of two members of one name; here they are refused.
class OneOfEachKey {
 public:
  bool operator()(int /*depth*/, json::parse_event_t event, const json& value) {
    if (event == json::parse_event_t::object_start) keys_.emplace_back();
    if (event == json::parse_event_t::object_end) keys_.pop_back();
    if (event == json::parse_event_t::key && !keys_.back().insert(value.get<std::string>()).second)
      throw UsageError("not JSON: the key " + Printable(value.get<std::string>()) + " is there twice");
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

json Parse(std::string_view text) {
  try {
    OneOfEachKey once;
    return json::parse(text, std::ref(once));
  } catch (const json::parse_error& error) {
    const std::string said = error.what();  // [name] parse error at line L, column C: reason
    const std::size_t colon = said.find(": ");
    throw UsageError("not JSON at byte " + std::to_string(error.byte - 1) + said.substr(colon));
  } catch (const json::exception& error) {  // a number beyond double's range
    throw UsageError(std::string("not JSON: ") + error.what());
  }
}

const json& Member(const json& holder, const std::string& key) {
  if (!holder.is_object()) throw UsageError("what holds " + key + " must be an object");
  const auto found = holder.find(key);
  if (found == holder.end()) throw UsageError(key + " is missing");
  return *found;
}

const json& List(const json& holder, const std::string& key) {
  const json& value = Member(holder, key);
  if (!value.is_array()) throw UsageError(key + " must be a list");
  return value;
}

std::string Text(const json& holder, const std::string& key) {
  const json& value = Member(holder, key);
  if (!value.is_string()) throw UsageError(key + " must be a string");
  return value.get<std::string>();
}

double Number(const json& value, const std::string& key) {
  if (!value.is_number()) throw UsageError(key + " must be a number");
  return value.get<double>();
}

int WholeNumber(const json& holder, const std::string& key) {
  const double number = Number(Member(holder, key), key);
  if (number != std::floor(number) || std::fabs(number) > std::numeric_limits<int>::max())
    throw UsageError(key + " must be a whole number");
  return static_cast<int>(number);
}

std::array<double, 3> Channels(const json& holder, const std::string& key) {
  const json& values = List(holder, key);
  if (values.size() != 3) throw UsageError(key + " must be a list of three numbers");
  return {Number(values[0], key), Number(values[1], key), Number(values[2], key)};
}

template <class T>
T Choice(const json& holder, const std::string& key, const std::string& first, T if_first, const std::string& second,
         T if_second) {
  const std::string name = Text(holder, key);
  if (name != first && name != second)
    throw UsageError(key + " must be " + first + " or " + second + ", not " + Printable(name));
  return name == first ? if_first : if_second;
}

Preprocessing ParsePreprocessing(const json& holder) {
  Preprocessing result;
  result.image_size = WholeNumber(holder, "image_size");
  result.resize = WholeNumber(holder, "resize");
  result.interpolation =
      Choice(holder, "interpolation", "bilinear", Interpolation::kBilinear, "bicubic", Interpolation::kBicubic);
  result.kernel = Choice(holder, "resize_kernel", "mindspore", ResizeKernel::kMindSpore, "pil", ResizeKernel::kPil);
  result.mean = Channels(holder, "mean");
  result.std = Channels(holder, "std");
  if (result.image_size < 1 || result.resize < result.image_size || result.resize > kLargestSide)
    throw UsageError("resize must be at least image_size, both in pixels up to " + std::to_string(kLargestSide));
  for (const double value : result.std)
    if (!(value > 0)) throw UsageError("std must be positive");
  return result;
}

// The last member of a file that export.py wrote is the checksum of the text before it; earlier versions wrote none.
void RequireUnchanged(const json& root, std::string_view text) {
  constexpr std::string_view kSeal = ",\n \"seal\": \"";
  const std::size_t end = text.rfind(kSeal);
  if (end == std::string_view::npos) return;
  if (Text(root, "seal") != Sha256(text.substr(0, end)))
    throw UsageError("it has changed since it was written; export the network again");
}

}  // namespace

Manifest ParseManifest(std::string_view text, const std::string& model_name) {
  const json root = Parse(text);
  RequireUnchanged(root, text);
  Manifest manifest;
  manifest.preprocessing = ParsePreprocessing(Member(root, "preprocessing"));
  for (const json& file : List(root, "files")) {
    if (Text(file, "file") == model_name) {
      manifest.sha256 = Text(file, "sha256");
      return manifest;
    }
  }
  throw UsageError("it does not describe " + Printable(model_name));
}

std::filesystem::path ManifestBeside(const std::filesystem::path& model) {
  return std::filesystem::path(model).replace_extension(".manifest.json");
}

}  // namespace infer

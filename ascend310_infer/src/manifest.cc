#include "inc/manifest.h"

#include "inc/errors.h"
#include "inc/json.h"

namespace infer {
namespace {

constexpr int kLargestSide = 1 << 14;

std::array<double, 3> Channels(const Json& json, const std::string& what) {
  const Json::Array& values = json.AsArray(what);
  if (values.size() != 3) throw UsageError(what + " must be a list of three numbers");
  return {values[0].AsNumber(what), values[1].AsNumber(what), values[2].AsNumber(what)};
}

template <class T>
T Choice(const Json& json, const std::string& what, const std::string& first, T if_first, const std::string& second,
         T if_second) {
  const std::string& name = json.AsString(what);
  if (name != first && name != second) throw UsageError(what + " must be " + first + " or " + second + ", not " + name);
  return name == first ? if_first : if_second;
}

Preprocessing ParsePreprocessing(const Json& json) {
  Preprocessing result;
  result.image_size = json.At("image_size").AsInt("image_size");
  result.resize = json.At("resize").AsInt("resize");
  result.interpolation = Choice(json.At("interpolation"), "interpolation", "bilinear", Interpolation::kBilinear,
                                "bicubic", Interpolation::kBicubic);
  result.kernel = Choice(json.At("resize_kernel"), "resize_kernel", "mindspore", ResizeKernel::kMindSpore, "pil",
                         ResizeKernel::kPil);
  result.mean = Channels(json.At("mean"), "mean");
  result.std = Channels(json.At("std"), "std");
  if (result.image_size < 1 || result.resize < result.image_size || result.resize > kLargestSide)
    throw UsageError("resize must be at least image_size, both in pixels up to " + std::to_string(kLargestSide));
  for (const double value : result.std)
    if (!(value > 0)) throw UsageError("std must be positive");
  return result;
}

}  // namespace

Manifest ParseManifest(std::string_view text, const std::string& model_name) {
  const Json root = Json::Parse(text);
  Manifest manifest;
  manifest.preprocessing = ParsePreprocessing(root.At("preprocessing"));
  for (const Json& name : root.At("classes").AsArray("classes")) manifest.classes.push_back(name.AsString("classes"));
  for (const Json& file : root.At("files").AsArray("files")) {
    if (file.At("file").AsString("file") == model_name) {
      manifest.sha256 = file.At("sha256").AsString("sha256");
      return manifest;
    }
  }
  throw UsageError("it does not describe " + model_name);
}

std::filesystem::path ManifestBeside(const std::filesystem::path& model) {
  return std::filesystem::path(model).replace_extension(".manifest.json");
}

}  // namespace infer

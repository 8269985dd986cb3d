// What belongs to an exported model: read from the <name>.manifest.json that export.py writes beside it.
#ifndef ASCEND310_INFER_INC_MANIFEST_H_
#define ASCEND310_INFER_INC_MANIFEST_H_

#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "inc/resize.h"

namespace infer {

// Evaluation preprocessing. The defaults are upstream's for ImageNet.
struct Preprocessing {
  int image_size = 224;  // side of the central crop, pixels
  int resize = 256;      // short side before the crop, pixels
  Interpolation interpolation = Interpolation::kBilinear;
  ResizeKernel kernel = ResizeKernel::kMindSpore;
  std::array<double, 3> mean = {0.485, 0.456, 0.406};  // per RGB channel, 0 to 1
  std::array<double, 3> std = {0.229, 0.224, 0.225};
};

struct Manifest {
  Preprocessing preprocessing;
  std::string sha256;  // of the model file; empty: not known
};

// The manifest's text, its entry for the file `model_name`. Throws UsageError naming what is wrong, and the byte at
// which the text stops being JSON.
Manifest ParseManifest(std::string_view text, const std::string& model_name);

// `name.mindir` -> `name.manifest.json`, beside it.
std::filesystem::path ManifestBeside(const std::filesystem::path& model);

}  // namespace infer

#endif  // ASCEND310_INFER_INC_MANIFEST_H_

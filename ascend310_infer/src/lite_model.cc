#include "inc/lite_model.h"

#include <include/api/context.h>
#include <include/api/data_type.h>
#include <include/api/model.h>
#include <include/api/types.h>

#include <cstdint>
#include <cstring>

#include "inc/errors.h"

namespace infer {
namespace {

using Shape = std::vector<std::int64_t>;

std::shared_ptr<mindspore::DeviceInfoContext> DeviceInfo(const Options& options) {
  const auto id = static_cast<std::uint32_t>(options.device_id);
  switch (options.device) {
    case Device::kGpu: {
      auto gpu = std::make_shared<mindspore::GPUDeviceInfo>();
      gpu->SetDeviceID(id);
      return gpu;
    }
    case Device::kAscend310:
    case Device::kAscend910: {
      // Lite has one kind of Ascend device; the driver knows which chip it is.
      auto ascend = std::make_shared<mindspore::AscendDeviceInfo>();
      ascend->SetDeviceID(id);
      return ascend;
    }
    case Device::kCpu: break;
  }
  return std::make_shared<mindspore::CPUDeviceInfo>();
}

void Check(const mindspore::Status& status, const std::string& what) {
  if (!status.IsOk()) throw Failure(what + ": " + status.ToString());
}

std::string Text(const Shape& shape) {
  std::string text;
  for (const std::int64_t side : shape) text += (text.empty() ? "[" : ", ") + std::to_string(side);
  return text + "]";
}

}  // namespace

struct LiteModel::Runtime {
  mindspore::Model model;
  std::vector<mindspore::MSTensor> inputs;
  std::vector<mindspore::MSTensor> outputs;
};

LiteModel::LiteModel(std::string_view mindir, const Options& options) : runtime_(std::make_unique<Runtime>()) {
  const auto context = std::make_shared<mindspore::Context>();
  context->SetThreadNum(options.threads);
  context->MutableDeviceInfo().push_back(DeviceInfo(options));
  const mindspore::Status built = runtime_->model.Build(mindir.data(), mindir.size(), mindspore::kMindIR, context);
  if (!built.IsOk()) {
    throw ModelRefused(
        "MindSpore Lite cannot build the model (Lite 2.0 reads what `export.py --mindir_for lite-2.0` "
        "writes, and `python -m src.export.mindir_v1 FILE FOLDER` rewrites a file as that): " +
        built.ToString());
  }
  runtime_->inputs = runtime_->model.GetInputs();
  if (runtime_->inputs.size() != 1)
    throw UsageError("the model has " + std::to_string(runtime_->inputs.size()) + " inputs, not one");
  const mindspore::MSTensor& tensor = runtime_->inputs.front();
  Shape shape = tensor.Shape();
  input_.is_bytes = tensor.DataType() == mindspore::DataType::kNumberTypeUInt8;
  if (!input_.is_bytes && tensor.DataType() != mindspore::DataType::kNumberTypeFloat32)
    throw UsageError("the model's input is neither float32 nor uint8");
  const std::size_t channels = input_.is_bytes ? 3 : 1;
  if (shape.size() != 4 || shape[channels] != 3 || shape[2] <= 0 || shape[2] != shape[input_.is_bytes ? 1 : 3])
    throw UsageError("the model's input " + Text(shape) + " is no batch of square RGB images");
  input_.image_size = static_cast<int>(shape[2]);
  if (shape[0] <= 0) {
    shape[0] = options.batch_size == 0 ? 1 : options.batch_size;
    Check(runtime_->model.Resize(runtime_->inputs, {shape}), "the model cannot take " + Text(shape));
    runtime_->inputs = runtime_->model.GetInputs();
  } else if (options.batch_size != 0 && options.batch_size != shape[0]) {
    throw UsageError("the model was exported for batches of " + std::to_string(shape[0]) +
                     ": leave --batch_size away, or export with `--batch_size dynamic`");
  }
  input_.batch = static_cast<std::size_t>(shape[0]);
}

LiteModel::~LiteModel() = default;

std::vector<std::string_view> LiteModel::Predict(std::string_view batch) {
  mindspore::MSTensor& input = runtime_->inputs.front();
  void* data = input.MutableData();
  if (data == nullptr || input.DataSize() != batch.size()) {
    throw Failure("the model's input takes " + std::to_string(input.DataSize()) + " bytes, not " +
                  std::to_string(batch.size()));
  }
  std::memcpy(data, batch.data(), batch.size());
  Check(runtime_->model.Predict(runtime_->inputs, &runtime_->outputs), "the prediction failed");
  std::vector<std::string_view> views;
  for (mindspore::MSTensor& output : runtime_->outputs) {
    const void* values = output.MutableData();
    if (values == nullptr || output.DataType() != mindspore::DataType::kNumberTypeFloat32 ||
        output.DataSize() % input_.batch != 0) {
      throw Failure("the model's output " + Text(output.Shape()) + " is no batch of float32 rows");
    }
    views.emplace_back(static_cast<const char*>(values), output.DataSize());
  }
  return views;
}

std::string LiteModel::LiteVersion() {
  std::string version = mindspore::Version();
  const std::size_t digit = version.find_first_of("0123456789");
  return digit == std::string::npos ? "" : version.substr(digit);
}

}  // namespace infer

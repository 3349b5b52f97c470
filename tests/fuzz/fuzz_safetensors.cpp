// Any bytes as a safetensors file: either weft::Error, or tensors that can be read to their last element.
#include <weft/tensor/safetensors.h>

#include <cstdint>
#include <memory>
#include <string>

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = std::make_shared<std::string>(reinterpret_cast<const char*>(data), size);
  try {
    const SafetensorsFile file(*bytes, bytes, "fuzz");
    for (const std::string& name : file.names()) {
      const Tensor x = file.tensor(name);
      if (x.numel() <= (1 << 20)) (void)x.to_vector<double>();
    }
  } catch (const Error&) {
  }
  return 0;
}

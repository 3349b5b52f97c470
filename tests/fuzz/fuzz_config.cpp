// Any bytes as the JSON of a config: either weft::Error, or a config that is written and read again to the same text.
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>

#include <cstdint>
#include <cstdlib>

using namespace weft;

namespace {

template <class Config>
void round_trip(std::string_view json) {
  try {
    const std::string once = config_to_json(config_from_json<Config>(json, "fuzz"));
    if (config_to_json(config_from_json<Config>(once, "fuzz")) != once) std::abort();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  round_trip<flash::FLASHTransformerConfig>(json);
  round_trip<flash::GAUConfig>(json);
  return 0;
}

#include <weft/tensor/dtype.h>

#include <charconv>

namespace weft {

void put(std::string& s, double v) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  s.append(buffer, end);
}

namespace {
constexpr const char* kNames[] = {"float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8", "bool"};
}

const char* name(DType d) { return kNames[static_cast<int>(d)]; }

DType dtype_from_name(std::string_view text) {
  for (int i = 0; i < 8; ++i) {
    if (text == kNames[i]) return static_cast<DType>(i);
  }
  fail("unknown dtype '", text, "': expected float64, float32, bfloat16, float16, int64, int32, uint8 or bool");
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_half(a) && is_half(b)) return float32;
  if (is_floating(a) || is_floating(b)) {
    if (!is_floating(a)) return b;
    if (!is_floating(b)) return a;
  }
  return a < b ? a : b;  // the enum goes from widest to narrowest within a kind
}

}  // namespace weft

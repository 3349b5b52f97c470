#include <weft/nn/init.h>
#include <weft/nn/linear.h>

#include <cmath>

namespace weft {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  check(in >= 0 && out >= 0, "Linear: sizes must not be negative, got ", in, " and ", out);
  weight = register_parameter("weight", empty({out, in}));
  if (with_bias) bias = register_parameter("bias", empty({out}));
  const double bound = in > 0 ? 1 / std::sqrt(static_cast<double>(in)) : 0;
  init::uniform_(weight, -bound, bound);
  if (with_bias) init::uniform_(bias, -bound, bound);
}

std::string Linear::extra_repr() const {
  return concat("in_features=", weight.size(1), ", out_features=", weight.size(0),
                ", bias=", bias.defined() ? "True" : "False");
}

}  // namespace weft

#include <weft/nn/init.h>
#include <weft/nn/xt/head_mixture.h>
#include <weft/ops/create.h>
#include <weft/ops/matmul.h>
#include <weft/ops/shape.h>

namespace weft::xt {

HeadMixture::HeadMixture(int64_t heads, bool identity) {
  weight = register_parameter("weight", eye(heads).reshape({heads, heads, 1, 1}));
  if (!identity) init::kaiming_uniform_(weight, 2.23606797749979);
}

Tensor HeadMixture::forward(const Tensor& x) const {
  const Tensor mixed = matmul(flatten(weight, 1, 3), flatten(x, 2, 3));  // [b, heads, n * m]
  return unflatten(mixed, -1, {x.size(2), x.size(3)});
}

}  // namespace weft::xt

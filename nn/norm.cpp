#include <weft/nn/norm.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>

namespace weft {

namespace {
// (512,) and (2, 3), as Python writes tuples.
std::string tuple(const Shape& shape) {
  std::string s = "(";
  for (int64_t i = 0; i < shape.size(); ++i) s += concat(i ? ", " : "", shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}
const char* python(bool v) { return v ? "True" : "False"; }
}  // namespace

std::pair<Tensor, Tensor> Norm::add(const Tensor& x, const Tensor& residual) const {
  const Tensor sum = ResidualStream{x, residual}.sum();
  return {sum, forward(sum)};
}

Tensor ResidualStream::sum() const {
  if (!branch.defined()) return x;
  check(x.shape() == branch.shape(), "ResidualStream: input ", x.shape(), " and residual ", branch.shape(),
        " differ in shape");
  return x + branch;
}

std::pair<Tensor, Tensor> ResidualStream::add_norm(const Norm& norm) const {
  return branch.defined() ? norm.add(x, branch) : std::pair{x, norm.forward(x)};
}

LayerNorm::LayerNorm(Shape shape, double eps, bool affine, bool with_bias) : shape_(shape), eps_(eps) {
  if (affine) weight = register_parameter("weight", ones(shape));
  if (affine && with_bias) bias = register_parameter("bias", zeros(shape));
}
std::string LayerNorm::extra_repr() const {
  return concat(tuple(shape_), ", eps=", eps_, ", elementwise_affine=", python(weight.defined()));
}

RMSNorm::RMSNorm(Shape shape, std::optional<double> eps, bool affine) : shape_(shape), eps_(eps) {
  if (affine) weight = register_parameter("weight", ones(shape));
}
std::string RMSNorm::extra_repr() const {
  return concat(tuple(shape_), ", eps=", eps_ ? concat(*eps_) : "None",
                ", elementwise_affine=", python(weight.defined()));
}

GroupNorm::GroupNorm(int64_t groups, int64_t channels, double eps, bool affine)
    : groups_(groups), channels_(channels), eps_(eps) {
  check(groups > 0 && channels % groups == 0, "GroupNorm: ", channels, " channels do not make ", groups, " groups");
  if (affine)
    weight = register_parameter("weight", ones({channels})), bias = register_parameter("bias", zeros({channels}));
}
std::string GroupNorm::extra_repr() const {
  return concat(groups_, ", ", channels_, ", eps=", eps_, ", affine=", python(weight.defined()));
}

}  // namespace weft

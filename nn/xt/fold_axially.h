// FoldAxially: a module of sequences reads every so-many-th token.
#pragma once

#include <weft/nn/module.h>

namespace weft::xt {

/// fn on axial_dim sequences in place of one: the tokens 0, axial_dim, 2 axial_dim, ..., those from 1 on, and so on; x
/// is padded with zeros to whole rounds. axial_dim 1 leaves fn as it is.
class FoldAxially : public Module {
 public:
  FoldAxially(int64_t axial_dim, std::shared_ptr<Module> fn);
  /// x: [b, n, d] → [b, n, e], where fn goes from [b, n, d] to [b, n, e]. A mask (bool [b, n], may be undefined: true
  /// at real tokens) is for an fn that can take one, an attention or AttentionLayers; others throw.
  Tensor operator()(const Tensor& x, const Tensor& mask) const;
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}); }
  using Module::operator();
  std::string name() const override { return "FoldAxially"; }

 private:
  int64_t axial_dim_;
  std::shared_ptr<Module> fn_;
};

}  // namespace weft::xt

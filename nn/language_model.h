#pragma once

#include <weft/nn/module.h>

namespace weft {

/// What training and sampling need to know of a model of token sequences.
class LanguageModel : public Module {
 public:
  /// tokens: int64 [b, n]; mask: bool [b, n], true at real tokens, or undefined → logits [b, n, num_tokens].
  virtual Tensor operator()(const Tensor& tokens, const Tensor& mask) const = 0;
  Tensor forward(const Tensor& tokens) const override { return (*this)(tokens, {}); }
  using Module::operator();
  /// Size of the vocabulary.
  virtual int64_t num_tokens() const = 0;
};

}  // namespace weft

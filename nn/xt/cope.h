// CoPE: positions that are counted by gates, so that a position can mean "the third word" or "the last sentence".
#pragma once

#include <weft/nn/module.h>

namespace weft::xt {

struct CoPEConfig {
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t max_pos = 16;
  bool soft_onehot = false;
  bool talking_heads = false;
  double soft_onehot_temp = 5e-2;
};

/// A key's position is the sum of sigmoid(scores) from it up to the query, at most max_pos - 1; q · pos_emb between the
/// two integers around it is added to the score. arXiv:2405.18719, appendix B
class CoPE : public Module {
 public:
  explicit CoPE(const CoPEConfig& config);
  /// q: [b, h, n, d]; scores: [b, h, n, m], the lowest number at keys that may not be seen; hidden: true there.
  Tensor operator()(const Tensor& q, const Tensor& scores, const Tensor& hidden) const;
  using Module::operator();
  std::string name() const override { return "CoPE"; }

  Tensor pos_emb;  // [max_pos, d]

 private:
  CoPEConfig config_;
  std::shared_ptr<Module> mixture_;
  Tensor positions_;
};

}  // namespace weft::xt

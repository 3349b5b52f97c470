// Embedding: rows of a table, looked up by id.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/index.h>

namespace weft {

/// ids: int64 of any shape → [..., embedding_dim]. weight starts normal; row padding_idx starts at 0 and gets no
/// gradient.
class Embedding : public Module {
 public:
  Embedding(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx = {});
  Tensor forward(const Tensor& ids) const override { return embedding(ids, weight, padding_idx_); }
  std::string name() const override { return "Embedding"; }
  std::string extra_repr() const override;

  Tensor weight;  // [num_embeddings, embedding_dim]

 private:
  std::optional<int64_t> padding_idx_;
};

}  // namespace weft

// Losses. Each is reduced to a scalar by its mean or sum, or kept per element with Reduction::none. Computed in float32
// (float64 for float64) whatever the storage; the result has the dtype of the input.
#pragma once

#include <weft/tensor/tensor.h>

#include <cstdint>

namespace weft {

enum class Reduction : uint8_t {
  none,
  mean,
  sum,
  batch_mean  ///< the sum divided by the first size; kl_div only
};

struct CrossEntropyOptions {
  Tensor weight = {};  ///< [c]: factor on the loss of each class; the mean divides by the sum of the targets' weights
  int64_t ignore_index = -100;  ///< positions with this target count nowhere
  double label_smoothing = 0;   ///< this share of each target is spread evenly over all classes
  Reduction reduction = Reduction::mean;
};

/// -log softmax(logits)[target], fused: no probabilities are kept, backward writes the gradient in one pass.
/// logits: [n, c], [c] or [n, c, d1, ...]; target: int64 [n], [] or [n, d1, ...], or probabilities of logits' shape and
/// a floating dtype (then ignore_index does not apply, and the target gets a gradient too). A target that is neither a
/// class nor ignore_index is an error. The mean over no position at all (everything ignored) is 0 where PyTorch gives
/// NaN. A position whose logits are all -inf has loss inf and no gradient.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});

/// The same for logits that are a result nobody else needs, given up by std::move or as a temporary: the gradient takes
/// their memory in the forward pass, and backward only multiplies it by the upstream gradient. Then it can be swept
/// once, without create_graph. What does not allow that (someone else holds the logits or they are a leaf, no gradient
/// is asked for, reduction none, probabilities as target, more than two dimensions, float16) goes the way of
/// cross_entropy.
Tensor cross_entropy_(Tensor&& logits, const Tensor& target, const CrossEntropyOptions& options = {});

/// cross_entropy(linear(x, weight, bias), target), of which the logits never exist at once: they are made in chunks of
/// rows, each of which gives its losses, its gradients, and way to the next. x: [..., d], weight: [c, d], bias: [c] or
/// undefined, target: int64 of x's leading dimensions. Gradients by x, weight and bias are computed in the forward pass
/// where one is asked for; those of weight and bias are summed over the chunks in float32 (float64 for float64). With
/// Reduction::none, in float16, and for a second sweep, backward makes the logits again. The products are of Autocast's
/// dtype where there is a scope. The loss is float32 (float64 for float64). chunk: rows of logits at a time; 0: as many
/// as take half a gigabyte. After arXiv:2410.10989 and arXiv:2411.09009.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                            const CrossEntropyOptions& options = {}, const Tensor& bias = {}, int64_t chunk = 0);

/// cross_entropy from log-probabilities: -log_probs[target].
Tensor nll_loss(const Tensor& log_probs, const Tensor& target, const CrossEntropyOptions& options = {});

// --- between tensors of one shape: element by element ------------------------------------------------------------

/// (input - target)²
Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);
/// |input - target|
Tensor l1_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);
/// With d = |input - target|: d²/(2·beta) below beta, d - beta/2 from there.
Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, double beta = 1,
                      Reduction reduction = Reduction::mean);
/// d²/2 below delta, delta·(d - delta/2) from there.
Tensor huber_loss(const Tensor& input, const Tensor& target, double delta = 1, Reduction reduction = Reduction::mean);

/// -(target·log(input) + (1 - target)·log(1 - input)) for probabilities in [0, 1]; logarithms are limited to -100, as
/// in PyTorch, so the loss stays finite. weight: factor on each element, broadcasts.
Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                            Reduction reduction = Reduction::mean);
/// The same with input = sigmoid(logits), without overflow. pos_weight: factor on the term of target, broadcasts.
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target, const Tensor& weight = {},
                                        const Tensor& pos_weight = {}, Reduction reduction = Reduction::mean);

/// target·(log(target) - input), 0 where target is 0; input holds logarithms, and target too if log_target.
Tensor kl_div(const Tensor& input, const Tensor& target, bool log_target = false,
              Reduction reduction = Reduction::mean);

}  // namespace weft

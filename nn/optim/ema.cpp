#include <weft/autograd/autograd.h>
#include <weft/nn/optim/ema.h>
#include <weft/ops/optim.h>

namespace weft {

EMA::EMA(const Module& model, double decay) : params_(model.named_parameters()), decay_(decay) {
  check(decay >= 0 && decay < 1, "EMA: decay must be in [0, 1), got ", decay);
  NoGrad guard;
  for (auto& [name, p] : params_) averages_.push_back(p.clone());
}

void EMA::update() {
  NoGrad guard;
  Tensors now;
  for (auto& [name, p] : params_) now.push_back(p.detach());
  ema_(averages_, now, decay_);
}

void EMA::swap() {
  NoGrad guard;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const Tensor before = params_[i].second.clone();
    params_[i].second.copy_(averages_[i]);
    averages_[i].copy_(before);
  }
}

NamedTensors EMA::state_dict() const {
  NamedTensors out;
  for (size_t i = 0; i < averages_.size(); ++i) out.emplace_back(params_[i].first, averages_[i]);
  return out;
}

void EMA::load_state_dict(const NamedTensors& state) {
  check(state.size() == averages_.size(), "EMA: load_state_dict: ", state.size(), " tensors for ", averages_.size(),
        " parameters");
  for (size_t i = 0; i < state.size(); ++i) {
    check(state[i].first == params_[i].first && state[i].second.shape() == averages_[i].shape(),
          "EMA: load_state_dict: expected ", params_[i].first, " ", averages_[i].shape(), ", got ", state[i].first, " ",
          state[i].second.shape());
  }
  NoGrad guard;
  for (size_t i = 0; i < state.size(); ++i) averages_[i].copy_(state[i].second.to(averages_[i].device()));
}

}  // namespace weft

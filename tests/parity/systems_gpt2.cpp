// GPT-2 of transformers: the model of examples/gpt2, whose weights have the same names.
#include "gpt2/gpt2.h"
#include "systems.h"

namespace weft::parity {
namespace {

// Calls GPT2 for its stream rather than its logits.
Subject gpt2_model(const Json& given) {
  Json config = given.value("config", Json::object());
  config.erase("class");
  gpt2::GPT2Config c;
  const auto take = [&](const char* key, auto& value) {
    if (!config.contains(key)) return;
    value = config[key].get<std::decay_t<decltype(value)>>();
    config.erase(key);
  };
  take("vocab_size", c.vocab_size);
  take("n_positions", c.n_positions);
  take("n_embd", c.n_embd);
  take("n_layer", c.n_layer);
  take("n_head", c.n_head);
  take("layer_norm_epsilon", c.layer_norm_epsilon);
  check(config.empty(), "GPT2: no option called ", config.empty() ? "" : config.begin().key());
  const auto model = std::make_shared<gpt2::GPT2>(c);
  return {model, [model](Arguments& a) -> Tensors {
            a.bind({"input_ids"});
            check(!a.flag("use_cache", false) && !a.flag("return_dict", false),
                  "GPT2: use_cache and return_dict are off here");
            return {model->hidden(a.tensor("input_ids"))};
          }};
}

}  // namespace

void add_gpt2(Table& t) { t["transformers.GPT2Model"] = gpt2_model; }

}  // namespace weft::parity

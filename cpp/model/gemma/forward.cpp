#include <algorithm>
#include <cmath>

#include "model/gemma/model.hpp"

// The forward pass of Gemma 3, after transformers' modeling_gemma3.py, whose names it keeps. T tokens are computed
// together; every step is either one or more products with weight matrices (linear) or work on each token.
namespace gemlet {

void Gemma::forward(std::span<const Segment> segments, Activations& activations, float* out, const Cancel* cancel,
                    const LayerTrace& trace) const {
  auto& s = static_cast<GemmaActivations&>(activations);
  s.begin(segments);
  embed(s);
  for (std::size_t i = 0; i < config_.shape.layers.size(); ++i) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      throw Error(Error::Kind::cancelled, "the computation was cancelled");
    }
    attention(config_.shape.layers[i], weights_.layers[i], s);
    if (s.tokens() == 0) break;  // of a piece of a prompt whose logits nobody wants
    feed_forward(config_.shape.layers[i], weights_.layers[i], s);
    if (trace) trace(i, {s.residual.data(), s.tokens() * s.hidden});
  }
  logits(s, out);
  for (const Segment& segment : segments) segment.cache->advance(segment.tokens.size());
}

// residual [T][hidden]: the token's row * sqrt(hidden), or a picture's as it is.
void Gemma::embed(GemmaActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const Matrix& table = weights_.embed_tokens;
  const kernels::WeightKernels& stored = k.weights[static_cast<std::size_t>(table.type)];
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    const Batch::Row& row = s.batch[t];
    float* out = s.residual.data() + t * s.hidden;
    if (row.embedding != nullptr) {
      std::copy_n(row.embedding, s.hidden, out);
    } else {
      stored.dequantize(table.row(static_cast<std::size_t>(row.token)), out, s.hidden);
      k.scale(std::sqrt(static_cast<float>(s.hidden)), out, s.hidden);
    }
  });
}

// residual += norm(o_proj(attention(norm(residual)))).
void Gemma::attention(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  const std::size_t dim = layer.head_dim;
  const std::size_t heads = config_.shape.num_attention_heads;

  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    k.rms_norm(s.residual.data() + t * hidden, w.input_layernorm.data(), config_.rms_norm_eps,
               s.normed.data() + t * hidden, hidden);
  });
  // Behind the keys and values of the last layer only tokens whose logits are wanted matter.
  const bool last = layer.file_index + 1 == config_.shape.layers.size();
  if (last && s.batch.has_unwanted()) {
    linear(s.compute, s.batch, {{w.k_proj, s.k.data()}, {w.v_proj, s.v.data()}}, s.normed.data());
    store(layer, w, s);
    s.keep_wanted();
    if (s.tokens() == 0) return;
    linear(s.compute, s.batch, {{w.q_proj, s.q.data()}}, s.normed.data());
  } else {
    linear(s.compute, s.batch, {{w.q_proj, s.q.data()}, {w.k_proj, s.k.data()}, {w.v_proj, s.v.data()}},
           s.normed.data());
    store(layer, w, s);
  }
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    for (std::size_t h = 0; h < heads; ++h) {
      float* q = s.q.data() + (t * heads + h) * dim;
      k.rms_norm(q, w.q_norm.data(), config_.rms_norm_eps, q, dim);
      k.rope(q, s.batch.cos(layer, t), s.batch.sin(layer, t), dim);
    }
    s.queries[t] = s.batch.query(layer, t);
  });
  gemlet::attention(s.compute, {.layer = layer.kv_source, .heads = heads, .scale = config_.attention_scale}, s.queries,
                    s.q.data(), s.attended.data());
  linear(s.compute, s.batch, {{w.o_proj, s.projected.data()}}, s.attended.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* out = s.projected.data() + t * hidden;
    k.rms_norm(out, w.post_attention_layernorm.data(), config_.rms_norm_eps, out, hidden);
    k.add(out, s.residual.data() + t * hidden, hidden);
  });
}

// The cache takes norm(k), turned, and v.
void Gemma::store(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t dim = layer.head_dim;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    const Batch::Row& row = s.batch[t];
    for (std::size_t h = 0; h < layer.kv_heads; ++h) {
      float* key = s.k.data() + (t * layer.kv_heads + h) * dim;
      const float* value = s.v.data() + (t * layer.kv_heads + h) * dim;
      k.rms_norm(key, w.k_norm.data(), config_.rms_norm_eps, key, dim);
      k.rope(key, s.batch.cos(layer, t), s.batch.sin(layer, t), dim);
      row.cache->store(k, layer.file_index, row.position, h, key, value);
    }
  });
}

// residual += norm(down(gelu(gate(norm(residual))) * up(norm(residual)))).
void Gemma::feed_forward(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  const std::size_t width = layer.intermediate_size;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    k.rms_norm(s.residual.data() + t * hidden, w.pre_feedforward_layernorm.data(), config_.rms_norm_eps,
               s.normed.data() + t * hidden, hidden);
  });
  linear(s.compute, s.batch, {{w.gate_proj, s.gate.data()}, {w.up_proj, s.up.data()}}, s.normed.data());
  s.compute.each_token(s.tokens(),
                       [&](std::size_t t) { k.gelu_mul(s.gate.data() + t * width, s.up.data() + t * width, width); });
  linear(s.compute, s.batch, {{w.down_proj, s.projected.data()}}, s.gate.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* out = s.projected.data() + t * hidden;
    k.rms_norm(out, w.post_feedforward_layernorm.data(), config_.rms_norm_eps, out, hidden);
    k.add(out, s.residual.data() + t * hidden, hidden);
  });
}

// out [T][vocab] = head(norm(residual)), capped as cap * tanh(x / cap) where the model has a cap.
void Gemma::logits(GemmaActivations& s, float* out) const {
  const kernels::Kernels& k = s.compute.kernels();
  if (s.tokens() == 0) return;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    k.rms_norm(s.residual.data() + t * s.hidden, weights_.norm.data(), config_.rms_norm_eps,
               s.normed.data() + t * s.hidden, s.hidden);
  });
  linear(s.compute, s.batch, {{weights_.lm_head, out}}, s.normed.data());
  if (config_.final_logit_softcapping == 0) return;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    k.soft_cap(out + t * config_.shape.vocab_size, config_.final_logit_softcapping, config_.shape.vocab_size);
  });
}

}  // namespace gemlet

#include "engine/sampler.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

namespace gemlet {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int max_top_logprobs = 20;

std::string to_text(float value) {
  char text[64];
  const auto [end, error] = std::to_chars(std::begin(text), std::end(text), value);
  return {text, end};
}

void expect(bool valid, const std::string& field, const std::string& found, const std::string& expected) {
  if (!valid) throw Error(Error::Kind::argument, field + " is " + found + ", expected " + expected);
}

void check_fields(const Sampling& s, std::size_t vocabulary) {
  const auto check = [](const char* field, float value, bool valid, const char* expected) {
    expect(valid, field, to_text(value), expected);
  };
  check("temperature", s.temperature, s.temperature >= 0 && s.temperature < infinity, "0 or more, and finite");
  check("top_p", s.top_p, s.top_p > 0 && s.top_p <= 1, "more than 0 and at most 1");
  check("min_p", s.min_p, s.min_p >= 0 && s.min_p <= 1, "0 to 1");
  check("repetition_penalty", s.repetition_penalty, s.repetition_penalty > 0 && s.repetition_penalty < infinity,
        "more than 0, and finite");
  check("presence_penalty", s.presence_penalty, std::abs(s.presence_penalty) <= 100, "-100 to 100");
  check("frequency_penalty", s.frequency_penalty, std::abs(s.frequency_penalty) <= 100, "-100 to 100");
  expect(s.top_k >= 0, "top_k", std::to_string(s.top_k), "0 or more");
  expect(s.top_logprobs >= 0 && s.top_logprobs <= max_top_logprobs, "top_logprobs", std::to_string(s.top_logprobs),
         "0 to " + std::to_string(max_top_logprobs));
  for (const auto& [token, bias] : s.logit_bias) {
    expect(token >= 0 && static_cast<std::size_t>(token) < vocabulary, "a token of logit_bias", std::to_string(token),
           "0 to " + std::to_string(vocabulary - 1));
    expect(bias < infinity, "logit_bias of token " + std::to_string(token), to_text(bias),
           "a finite number, or minus infinity to rule the token out");
  }
}

}  // namespace

Sampler::Sampler(const Sampling& sampling, int vocabulary, std::span<const Token> prompt, const Constraint* constraint)
    : sampling_(sampling),
      vocabulary_(static_cast<std::size_t>(vocabulary)),
      random_(sampling.seed),
      constraint_(constraint == nullptr ? nullptr : constraint->clone()) {
  check_fields(sampling, vocabulary_);
  for (const Token token : prompt) {
    expect(token >= 0 && token < vocabulary, "a token of the prompt", std::to_string(token),
           "0 to " + std::to_string(vocabulary - 1));
  }
  seen_.insert(prompt.begin(), prompt.end());
}

Sampler::Sampler(const Sampler& other)
    : sampling_(other.sampling_),
      vocabulary_(other.vocabulary_),
      random_(other.random_),
      seen_(other.seen_),
      completion_counts_(other.completion_counts_),
      constraint_(other.constraint_ == nullptr ? nullptr : other.constraint_->clone()) {}

SampledToken Sampler::sample(std::span<const float> logits) {
  check(logits);
  adjusted_.assign(logits.begin(), logits.end());
  if (constraint_ != nullptr) constraint_->mask(adjusted_);
  add_bias_and_penalties();
  SampledToken sampled;
  sampled.token = draw();
  report(logits, sampled);
  if (constraint_ != nullptr) constraint_->accept(sampled.token);
  seen_.insert(sampled.token);
  ++completion_counts_[sampled.token];
  return sampled;
}

void Sampler::check(std::span<const float> logits) const {
  expect(logits.size() == vocabulary_, "the number of logits", std::to_string(logits.size()),
         std::to_string(vocabulary_));
  const auto bad = std::find_if_not(logits.begin(), logits.end(), [](float logit) { return logit < infinity; });
  if (bad != logits.end()) {
    expect(false, "the logit of token " + std::to_string(bad - logits.begin()), to_text(*bad),
           "a finite number or minus infinity");
  }
}

void Sampler::add_bias_and_penalties() {
  const auto logit = [&](Token token) -> float& { return adjusted_[static_cast<std::size_t>(token)]; };
  for (const auto& [token, bias] : sampling_.logit_bias) logit(token) += bias;
  if (sampling_.repetition_penalty != 1) {
    for (const Token token : seen_) {
      float& value = logit(token);
      value = value > 0 ? value / sampling_.repetition_penalty : value * sampling_.repetition_penalty;
    }
  }
  for (const auto& [token, count] : completion_counts_) {
    logit(token) -= sampling_.presence_penalty + static_cast<float>(count) * sampling_.frequency_penalty;
  }
}

Token Sampler::draw() {
  // Logits at the edge of a float's range may have left it by a bias or a penalty.
  for (float& logit : adjusted_) logit = std::min(logit, std::numeric_limits<float>::max());
  const auto first = std::max_element(adjusted_.begin(), adjusted_.end());
  const float greatest = *first;
  if (greatest == -infinity) {
    throw Error(Error::Kind::argument, "no token can be drawn: every logit is minus infinity");
  }
  if (sampling_.temperature == 0) return static_cast<Token>(first - adjusted_.begin());

  const auto top_k = static_cast<std::size_t>(sampling_.top_k);
  std::vector<Candidate> candidates;
  if (top_k > 0 && top_k < vocabulary_) {
    candidates = best(adjusted_, top_k);
  } else {
    for (std::size_t i = 0; i < vocabulary_; ++i) candidates.push_back({adjusted_[i], static_cast<Token>(i)});
  }
  if (sampling_.top_p < 1) keep_top_p(candidates, greatest);
  std::erase_if(candidates, [&](const Candidate& c) { return weight(c, greatest) < sampling_.min_p; });

  double total = 0;
  for (const Candidate& candidate : candidates) total += weight(candidate, greatest);
  // Uniform in [0, 1) from the top 53 bits: the distributions of <random> differ between standard libraries.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  Token last = candidates.front().token;
  for (const Candidate& candidate : candidates) {
    const double w = weight(candidate, greatest);
    if (w == 0) continue;
    last = candidate.token;
    if (left < w) break;
    left -= w;  // rounding may leave a little at the end: that is the last one's
  }
  return last;
}

/// exp((logit - greatest) / temperature), proportional to the probability and 1 for the likeliest.
double Sampler::weight(const Candidate& candidate, float greatest) const {
  return std::exp((double{candidate.logit} - double{greatest}) / double{sampling_.temperature});
}

std::vector<Sampler::Candidate> Sampler::best(std::span<const float> logits, std::size_t count) {
  std::vector<Candidate> heap;  // the worst of the best so far in front
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{logits[i], static_cast<Token>(i)};
    if (heap.size() == count) {
      if (!(candidate < heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    heap.push_back(candidate);
    std::push_heap(heap.begin(), heap.end());
  }
  std::sort_heap(heap.begin(), heap.end());
  return heap;
}

/// The fewest likeliest candidates that hold top_p of the probability. Sorts no more than it needs: a whole vocabulary
/// would take longer than the model's smaller layers.
void Sampler::keep_top_p(std::vector<Candidate>& candidates, float greatest) const {
  double total = 0;
  for (const Candidate& candidate : candidates) total += weight(candidate, greatest);
  const double wanted = double{sampling_.top_p} * total;
  double held = 0;
  for (std::size_t sorted = 0; sorted < candidates.size();) {
    const std::size_t end = std::min(candidates.size(), std::max<std::size_t>(256, 4 * sorted));
    const auto begin = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(end);
    std::partial_sort(begin, middle, candidates.end());
    for (; sorted < end; ++sorted) {
      held += weight(candidates[sorted], greatest);
      if (held >= wanted) {
        candidates.resize(sorted + 1);
        return;
      }
    }
  }
}

void Sampler::report(std::span<const float> logits, SampledToken& sampled) const {
  if (sampling_.top_logprobs == 0) return;
  const double greatest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - greatest);
  const double log_total = greatest + std::log(sum);
  sampled.logprob = static_cast<float>(double{logits[static_cast<std::size_t>(sampled.token)]} - log_total);
  for (const Candidate& c : best(logits, static_cast<std::size_t>(sampling_.top_logprobs))) {
    if (c.logit == -infinity) break;
    sampled.top.push_back({c.token, static_cast<float>(double{c.logit} - log_total)});
  }
}

}  // namespace gemlet

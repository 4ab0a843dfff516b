#pragma once

#include <memory>

#include "bindings/busy.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/gemlet.hpp"
#include "gemlet/media.hpp"

// What the C interface's handles hold.

struct gemlet_engine {
  std::shared_ptr<const gemlet::Engine> engine;
};

struct gemlet_session {
  gemlet::Session session;
  gemlet::Cancel cancel{false};
  gemlet::Busy busy{};
};

struct gemlet_encoders {
  std::shared_ptr<const gemlet::Encoders> encoders;
};

struct gemlet_medium {
  std::shared_ptr<const gemlet::Medium> medium;
};

struct gemlet_sound {
  gemlet::SoundStream stream;
  gemlet::Cancel cancel{false};
  gemlet::Busy busy{"sound"};
};

"""From a recording to the log-mel spectrogram that an encoder of speech takes; the microphone."""

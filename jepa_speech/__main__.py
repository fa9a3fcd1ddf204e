from jepa_speech.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

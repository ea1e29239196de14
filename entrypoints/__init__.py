"""Where Calotype starts: settings, the container, the server, the command line and the in-process bus."""
